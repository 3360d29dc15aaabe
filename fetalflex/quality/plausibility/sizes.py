"""Is what a layout asks for possible at its age? Sizes against published growth; without an age against all ages."""

from collections.abc import Callable

from fetalflex.anatomy.biometry import FIRST_WEEK, LAST_WEEK, Measure, mean_mm, sd_mm
from fetalflex.anatomy.layout import Layout, Mask
from fetalflex.anatomy.measure import circumference, ellipse_diameters, largest_diameter, region_of
from fetalflex.errors import AnomalyError

MOST_SD = 4.0  # an age of a device is rounded, and a layout is varied by some per cent
# The growth formulae begin at 14 weeks, dating scans at 10 (NICE guideline CG62: 10+0 to 13+6 weeks), and a third of
# HC18's heads are smaller than any of 14 weeks: the mean goes on downwards as it grows there, with the same SD. Our
# estimate, no published chart.
FIRST_SCAN_WEEK = 10.0
_SIZES: dict[str, tuple[str, Measure, Callable[[Mask, float], float]]] = {
    "head circumference": ("head", "hc", circumference),
    "biparietal diameter": ("head", "bpd", lambda mask, extent: ellipse_diameters(mask, extent)[1]),
    "abdominal circumference": ("abdomen", "ac", circumference),
    "femur length": ("femur", "fl", largest_diameter),
}


def out_of_range(layout: Layout) -> str | None:
    """Return what is out of range in words, or None. Layouts without millimetres cannot be judged and pass.

    Source: INTERGROWTH-21st (`anatomy.biometry`); four standard deviations about the mean, which is continued in a
    straight line from 14 weeks down to `FIRST_SCAN_WEEK`.
    """
    if layout.unit != "mm":
        return None
    for told, (structure, measure, how) in _SIZES.items():
        if layout.find(structure) is None:
            continue
        try:
            value = how(region_of(layout, structure), layout.extent)
        except AnomalyError:
            return f"{told} cannot be measured"
        low, high = _range(measure, layout.age_weeks)
        if not low <= value <= high:
            age = "any age" if layout.age_weeks is None else f"{layout.age_weeks:.1f} weeks"
            return f"{told} {value:.0f} mm, expected {low:.0f} to {high:.0f} mm at {age}"
    return None


def _range(measure: Measure, weeks: float | None) -> tuple[float, float]:
    ages = (FIRST_SCAN_WEEK, LAST_WEEK) if weeks is None else (min(max(weeks, FIRST_SCAN_WEEK), LAST_WEEK),) * 2
    (low, low_sd), (high, high_sd) = (_mean_and_sd(measure, age) for age in ages)
    return max(0.0, low - MOST_SD * low_sd), high + MOST_SD * high_sd


def _mean_and_sd(measure: Measure, weeks: float) -> tuple[float, float]:
    known = max(weeks, FIRST_WEEK)
    a_week = mean_mm(measure, FIRST_WEEK + 1) - mean_mm(measure, FIRST_WEEK)
    return max(0.0, mean_mm(measure, known) - a_week * (known - weeks)), sd_mm(measure, known)
