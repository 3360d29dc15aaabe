"""Fetal size by gestational age: published growth formulae, and the few sizes that had to be estimated.

Ages are weeks from the last menstrual period, exact (22.5 is 22 weeks and 3.5 days); lengths are mm.
Source: Papageorghiou et al., International standards for fetal growth based on serial ultrasound
measurements: the Fetal Growth Longitudinal Study of the INTERGROWTH-21st Project, Lancet 2014;384:869-79, equations
for mean and SD (normal distribution, 14 to 40 weeks).
"""

from collections.abc import Callable
from math import exp, log
from typing import Literal

from scipy.special import ndtr, ndtri

from fetalflex.errors import LayoutError

Measure = Literal["hc", "bpd", "ofd", "ac", "fl"]
FIRST_WEEK, LAST_WEEK = 14.0, 40.0

# Atrial width does not change with age: mean 7.6, SD 0.6 mm from 14 to 38 weeks; above 10 mm is ventriculomegaly.
# Source: Cardoza, Goldstein, Filly, Radiology 1988;169:711-4.
ATRIAL_WIDTH_MM, ATRIAL_WIDTH_SD_MM, ATRIAL_LIMIT_MM = 7.6, 0.6, 10.0
# Circumference of the heart over that of the thorax, about one half at all ages. Source of the measure: Paladini,
# Chita, Allan, Arch Dis Child 1990;65:20-3; the values are our rounding.
CARDIOTHORACIC_RATIO, CARDIOTHORACIC_SD = 0.50, 0.03
# Depth of the cisterna magna: 2 to 10 mm is normal. Source of the limit: Mahony, Callen, Filly, Hoddick, Radiology
# 1984;153:773-6; ISUOG Practice Guidelines (fetal CNS), 2020. Mean and SD are our rounding.
CISTERNA_MAGNA_MM, CISTERNA_MAGNA_SD_MM, CISTERNA_MAGNA_LIMIT_MM = 5.0, 1.0, 10.0

_MEAN: dict[str, Callable[[float], float]] = {
    "hc": lambda w: -28.2849 + 1.69267 * w**2 - 0.397485 * w**2 * log(w),
    "bpd": lambda w: 5.60878 + 0.158369 * w**2 - 0.00256379 * w**3,
    "ofd": lambda w: -12.4097 + 0.626342 * w**2 - 0.148075 * w**2 * log(w),
    "ac": lambda w: -81.3243 + 11.6772 * w - 0.000561865 * w**3,
    "fl": lambda w: -39.9616 + 4.32298 * w - 0.0380156 * w**2,
}
_SD: dict[str, Callable[[float], float]] = {
    "hc": lambda w: 1.98735 + w**3 * (0.0136772 - 0.00726264 * log(w) + 0.000976253 * log(w) ** 2),
    "bpd": lambda w: exp(0.101242 + w**3 * (0.00150557 - 0.000771535 * log(w) + 0.0000999638 * log(w) ** 2)),
    "ofd": lambda w: exp(-0.880034 + w**2 * (0.0631165 - 0.0317136 * log(w) + 0.00408302 * log(w) ** 2)),
    "ac": lambda w: -4.36302 + 0.121445 * w**2 - 0.0130256 * w**3 + 0.00282143 * w**3 * log(w),
    "fl": lambda w: exp(0.605843 - 42.0014 * w**-2 + 0.00000917972 * w**3),
}


def mean_mm(measure: Measure, weeks: float) -> float:
    """Return the mean of a measure. Source: INTERGROWTH-21st (module). Raises: LayoutError out of 14 to 40 weeks."""
    return _MEAN[measure](_in_range(weeks))


def sd_mm(measure: Measure, weeks: float) -> float:
    """Return the standard deviation of a measure. Source and Raises: as `mean_mm`."""
    return _SD[measure](_in_range(weeks))


def percentile_mm(measure: Measure, weeks: float, percentile: float) -> float:
    """Return the value at a percentile in (0, 100). Raises: LayoutError where that or the age is out of range."""
    if not 0 < percentile < 100:
        raise LayoutError(f"percentile {percentile} is impossible; expected a value between 0 and 100")
    return mean_mm(measure, weeks) + sd_mm(measure, weeks) * float(ndtri(percentile / 100))


def percentile_of(measure: Measure, weeks: float, value_mm: float) -> float:
    """Return the percentile in (0, 100) of a value at an age. Raises: as `mean_mm`."""
    return 100 * float(ndtr((value_mm - mean_mm(measure, weeks)) / sd_mm(measure, weeks)))


def age_from(measure: Measure, value_mm: float) -> float:
    """Return the age in weeks at which `value_mm` is the mean.

    Derived by us (bisection of the mean curve), no published dating formula. Raises: LayoutError out of 14 to 40 weeks.
    """
    low, high = FIRST_WEEK, LAST_WEEK
    if not _MEAN[measure](low) <= value_mm <= _MEAN[measure](high):
        raise LayoutError(
            f"{measure} of {value_mm:.1f} mm is no mean between 14 and 40 weeks; expected "
            f"{_MEAN[measure](low):.1f} to {_MEAN[measure](high):.1f} mm"
        )
    for _ in range(50):  # 26 weeks / 2^50: exact to the last bits
        middle = (low + high) / 2
        low, high = (middle, high) if _MEAN[measure](middle) < value_mm else (low, middle)
    return (low + high) / 2


def head_circumference_mm(weeks: float) -> float:
    """Return the mean head circumference."""
    return mean_mm("hc", weeks)


def biparietal_diameter_mm(weeks: float) -> float:
    """Return the mean biparietal diameter (outer to outer)."""
    return mean_mm("bpd", weeks)


def abdominal_circumference_mm(weeks: float) -> float:
    """Return the mean abdominal circumference."""
    return mean_mm("ac", weeks)


def femur_length_mm(weeks: float) -> float:
    """Return the mean length of the ossified femoral shaft."""
    return mean_mm("fl", weeks)


def thoracic_circumference_mm(weeks: float) -> float:
    """Return the mean thoracic circumference: 0.89 of the abdominal one (our estimate; that they keep a nearly
    constant ratio: Chitkara et al., Am J Obstet Gynecol 1987;156:1069-74).
    """
    return 0.89 * mean_mm("ac", weeks)


def stomach_length_mm(weeks: float) -> float:
    """Return the long diameter of a filled stomach: a third of the mean abdominal diameter (our estimate)."""
    return 0.105 * mean_mm("ac", weeks)


def csp_width_mm(weeks: float) -> float:
    """Return the width of the cavum septi pellucidi: 2.5 mm at 15 to 6 mm at 27 weeks, then constant (our estimate,
    after the course described by Jou et al., Ultrasound Obstet Gynecol 1998;12:419-21).
    """
    return 2.5 + 3.5 * (min(max(_in_range(weeks), 15.0), 27.0) - 15.0) / 12.0


def cerebellar_diameter_mm(weeks: float) -> float:
    """Return the transverse cerebellar diameter: about the age in weeks up to 22, then 1.55 mm a week (our estimate,
    after the course described by Goldstein et al., Am J Obstet Gynecol 1987;156:1065-9).
    """
    return weeks if _in_range(weeks) <= 22 else 22 + 1.55 * (weeks - 22)


def kidney_depth_mm(weeks: float) -> float:
    """Return the anteroposterior diameter of a kidney on a transverse view (our estimate: 0.56 mm a week)."""
    return 0.56 * _in_range(weeks)


def nasal_bone_mm(weeks: float) -> float:
    """Return the length of the nasal bone (our estimate: 4 mm at 15 to 9.5 mm at 32 weeks)."""
    return 4.0 + 5.5 * (min(max(_in_range(weeks), 15.0), 32.0) - 15.0) / 17.0


def _in_range(weeks: float) -> float:
    if not FIRST_WEEK <= weeks <= LAST_WEEK:
        raise LayoutError(f"gestational age {weeks:g} weeks is out of the growth formulae; expected 14 to 40")
    return weeks
