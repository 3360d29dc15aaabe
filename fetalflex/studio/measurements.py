"""What a layout measures, beside what is normal at its age: the figures that stand beside the picture."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

from fetalflex.anatomy import biometry, measure
from fetalflex.anatomy.anomalies import ventriculomegaly_grade
from fetalflex.anatomy.edit_brain import cisterna_depth, ventricle_width
from fetalflex.anatomy.edit_heart import heart_ratio
from fetalflex.anatomy.edit_limbs import femur_length
from fetalflex.anatomy.edit_trunk import pelvis_depth
from fetalflex.anatomy.editing import Setting, age_of_size, setting_of
from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.measure import region_of
from fetalflex.anatomy.ontology import plane
from fetalflex.anatomy.severities import BRAIN
from fetalflex.errors import AnomalyError

Status = Literal["normal", "low", "high", "unknown"]
_CEPHALIC, _CEPHALIC_SD = 78.3, 4.4  # Hadlock et al., AJR 1981;137:83-5
_GROWTH = "INTERGROWTH-21st, Lancet 2014;384:869-79: 3rd to 97th centile"


@dataclass(frozen=True)
class Measurement:
    """One figure: its value in `unit` and the normal range, None where there is no limit or it is not known.

    `grade`: what the guideline calls it; `note`: why there is no value or no range.
    """

    name: str
    label: str
    structure: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    grade: str = ""
    note: str = ""
    source: str = ""

    @property
    def status(self) -> Status:
        """Where the value lies."""
        if self.value is None or (self.low is None and self.high is None):
            return "unknown"
        if self.low is not None and self.value < self.low:
            return "low"
        return "high" if self.high is not None and self.value > self.high else "normal"


@dataclass(frozen=True)
class Scale:
    """What a layout is measured with. `estimated`: its mm are guessed from a structure's usual size."""

    setting: Setting | None
    weeks: float | None
    weeks_from: Literal["stated", "size", "none"]
    estimated: bool


def scale_of(layout: Layout) -> Scale:
    """Return scale and age of a layout; take it from the layout before an anomaly: an abnormal head tells no age."""
    try:
        setting: Setting | None = setting_of(layout)
    except AnomalyError:
        setting = None  # nothing on it tells its size: lengths are not shown, and the page says so
    stated = layout.age_weeks if not layout.age_derived else None
    weeks = stated or layout.age_weeks or age_of_size(layout)
    source: Literal["stated", "size", "none"] = "stated" if stated else "size" if weeks else "none"
    return Scale(setting, weeks, source, layout.unit != "mm")


def measurements(layout: Layout, scale: Scale) -> list[Measurement]:
    """Return the figures of all that is on a layout, in the order of the plane's structures."""
    found: list[Measurement] = []
    for structure in plane(layout.plane).structures:
        if structure in _OF and layout.find(structure) is not None:
            found += _OF[structure](layout, scale)
    return [replace(m, note=_note(m, scale)) for m in found]


def _note(found: Measurement, scale: Scale) -> str:
    if found.note:
        return found.note
    if found.unit == "mm" and scale.estimated:
        return "scale estimated from usual sizes"
    return "age from size" if found.source == _GROWTH and scale.weeks_from == "size" else ""


def _length(layout: Layout, scale: Scale, get: Callable[[Layout, Setting], float]) -> tuple[float | None, str]:
    """Return a length in mm, or why there is none."""
    if scale.setting is None:
        return None, "no scale: nothing on the layout tells its size"
    setting = scale.setting
    return _tried(lambda: get(layout, setting))


def _tried(get: Callable[[], float]) -> tuple[float | None, str]:
    try:
        value = get()
    except AnomalyError as error:  # too small to be measured: said on the page instead of a figure
        return None, str(error)
    return (value, "") if isfinite(value) else (None, "cannot be measured")


def _grown(measure_name: biometry.Measure, weeks: float | None) -> tuple[float | None, float | None, str]:
    """Return the 3rd and 97th centile at an age, or why there are none."""
    if weeks is None:
        return None, None, "set the age to see the normal range"
    if not biometry.FIRST_WEEK <= weeks <= biometry.LAST_WEEK:
        return None, None, f"no range at {weeks:g} weeks (14 to 40)"
    return (
        biometry.percentile_mm(measure_name, weeks, 3), biometry.percentile_mm(measure_name, weeks, 97), "",
    )  # fmt: skip


def _ventricle(layout: Layout, scale: Scale) -> list[Measurement]:
    value, note = _length(layout, scale, ventricle_width)
    grade = "" if value is None or value < biometry.ATRIAL_LIMIT_MM else ventriculomegaly_grade(value)
    return [
        Measurement(
            "atrial-width", "Atrial width", "lateral-ventricle", value, "mm", None, biometry.ATRIAL_LIMIT_MM,
            f"{grade} ventriculomegaly" if grade else "", note,
            "below 10 mm at all ages: Radiology 1988;169:711-4; ISUOG guidelines (fetal CNS), 2020",
        )
    ]  # fmt: skip


def _head(layout: Layout, scale: Scale) -> list[Measurement]:
    if layout.plane not in BRAIN:
        return []

    def of_ellipse(part: int) -> Callable[[Layout, Setting], float]:
        return lambda v, s: measure.ellipse_diameters(region_of(v, "head"), v.extent)[part] * s.millimetres

    wanted: list[tuple[biometry.Measure, str, Callable[[Layout, Setting], float]]] = [
        (
            "hc",
            "Head circumference",
            lambda v, s: measure.circumference(region_of(v, "head"), v.extent) * s.millimetres,
        ),
        ("bpd", "Biparietal diameter", of_ellipse(1)),
        ("ofd", "Occipitofrontal diameter", of_ellipse(0)),
    ]
    found = [_sized(layout, scale, "head", name, label, get) for name, label, get in wanted]
    value, note = _tried(lambda: measure.cephalic_index(region_of(layout, "head"), layout.extent))
    source = "mean 78.3, SD 4.4: Hadlock et al., AJR 1981;137:83-5"
    low, high = _CEPHALIC - _CEPHALIC_SD, _CEPHALIC + _CEPHALIC_SD
    return [*found, Measurement("ci", "Cephalic index", "head", value, "%", low, high, "", note, source)]


def _sized(
    layout: Layout,
    scale: Scale,
    structure: str,
    name: biometry.Measure,
    label: str,
    get: Callable[[Layout, Setting], float],
) -> Measurement:
    value, why = _length(layout, scale, get)
    low, high, note = _grown(name, scale.weeks)
    return Measurement(name, label, structure, value, "mm", low, high, "", why or note, _GROWTH)


def _abdomen(layout: Layout, scale: Scale) -> list[Measurement]:
    def around(v: Layout, s: Setting) -> float:
        return measure.circumference(region_of(v, "abdomen"), v.extent) * s.millimetres

    return [_sized(layout, scale, "abdomen", "ac", "Abdominal circumference", around)]


def _femur(layout: Layout, scale: Scale) -> list[Measurement]:
    return [_sized(layout, scale, "femur", "fl", "Femur length", lambda v, s: femur_length(v) * s.millimetres)]


def _heart(layout: Layout, scale: Scale) -> list[Measurement]:
    if layout.find("thorax") is None or layout.find("heart") is None:
        return []
    value, note = _tried(lambda: heart_ratio(layout, scale.setting or Setting(1.0, 22.0)))
    mean, spread = biometry.CARDIOTHORACIC_RATIO, biometry.CARDIOTHORACIC_SD
    source = "mean 0.50, SD 0.03 (our rounding): Paladini et al., Arch Dis Child 1990;65:20-3"
    high, low = mean + 2 * spread, mean - 2 * spread
    return [Measurement("ctr", "Cardiothoracic ratio", "heart", value, "", low, high, "", note, source)]


def _cisterna(layout: Layout, scale: Scale) -> list[Measurement]:
    value, note = _length(layout, scale, cisterna_depth)
    source = "2 to 10 mm: Mahony et al., Radiology 1984;153:773-6"
    return [
        Measurement(
            "cisterna-magna", "Cisterna magna", "cisterna-magna", value, "mm", 2.0, biometry.CISTERNA_MAGNA_LIMIT_MM,
            "", note, source,
        )
    ]  # fmt: skip


def _pelvis(layout: Layout, scale: Scale) -> list[Measurement]:
    value, note = _length(layout, scale, pelvis_depth)
    limit = None if scale.weeks is None else 4.0 if scale.weeks < 28 else 7.0
    source = "below 4 mm to 27, below 7 mm from 28 weeks: UTD, J Pediatr Urol 2014;10:982-98"
    label = "Renal pelvis (anteroposterior)"
    why = note or ("" if limit else "set the age to see the normal range")
    return [Measurement("renal-pelvis", label, "renal-pelvis", value, "mm", None, limit, "", why, source)]


_OF: dict[str, Callable[[Layout, Scale], list[Measurement]]] = {
    "lateral-ventricle": _ventricle, "head": _head, "abdomen": _abdomen, "femur": _femur, "heart": _heart,
    "cisterna-magna": _cisterna, "renal-pelvis": _pelvis,
}  # fmt: skip
