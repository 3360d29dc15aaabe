"""A small generative model of normal layouts of one plane: new anatomy, not copies of training masks.

What is modelled is where things lie and how large they are: the size of the part that frames the plane (as a score of
the published biometry, so that few layouts already give plausible ages), its shape, and place and size of each
structure in it. Outlines are those of a training layout, moved and scaled; a new outline is not invented.

Layouts in mm with a stated age give an absolute model: sizes belong to an age. Others give a relative one: the frame's
size is a share of the canvas, as in the training images, and tells no age.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy import biometry, edit_brain, edit_heart, edit_limbs, edit_trunk
from fetalflex.anatomy.editing import ASSUMED_WEEKS, moved, setting_of
from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.measure import centroid, circumference, principal_axes, region, region_of
from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.anatomy.severities import KINDS
from fetalflex.errors import LayoutError, TooFewCasesError

Floats = npt.NDArray[np.float64]
FRAMES: dict[str, tuple[str, biometry.Measure]] = {
    "transventricular": ("head", "hc"), "transthalamic": ("head", "hc"), "transcerebellar": ("head", "hc"),
    "brain": ("head", "hc"), "abdomen": ("abdomen", "ac"), "kidneys": ("abdomen", "ac"),
    "four-chamber": ("thorax", "ac"), "thorax": ("thorax", "ac"), "femur": ("femur", "fl"),
}  # fmt: skip
_RIDERS = {"renal-pelvis": "kidney"} | dict.fromkeys(edit_heart.CHAMBERS, "heart")  # they move with what holds them
_PRIOR_CASES = 8.0  # how many layouts the prior is worth
# Standard deviations of the prior: log ratio of the frame's radii; place (in its radii) and log size of a structure.
_PRIOR_RATIO, _PRIOR_PLACE, _PRIOR_SIZE = 0.04, 0.03, 0.08
# Of the head: log of the cephalic index, mean 0.783 and SD 0.044. Source: Hadlock et al., AJR 1981;137:83-5.
_HEAD_RATIO, _HEAD_RATIO_SD = float(np.log(0.783)), 0.044 / 0.783
_LIMIT = 2.0  # standard deviations: what is sampled stays within
_TRIES = 40


@dataclass(frozen=True, eq=False)
class PlaneStatistics:
    """Mean and covariance of (size, log ratio, then x, y, log size of each structure) and the layouts behind them.

    The size is the frame's score for the age where the model is `absolute`, else the log of its share of the canvas.
    """

    plane: str
    absolute: bool
    names: tuple[str, ...]
    mean: Floats
    covariance: Floats
    templates: tuple[Layout, ...]
    features: Floats


@dataclass(frozen=True, eq=False)
class _Frame:
    """The frame's centre, axes (columns, towards positive places), radii along them, and mean radius."""

    centre: Floats
    axes: Floats
    radii: Floats


def tells_size(layout: Layout) -> bool:
    """Whether a layout can teach the absolute model: it is in mm, and its age is stated, not derived from its size."""
    return layout.unit == "mm" and layout.age_weeks is not None and not layout.age_derived


def fit_statistics(layouts: Sequence[Layout], *, relative: bool = False) -> PlaneStatistics:
    """Fit the model to normal layouts of one plane; the absolute one to those in mm with an age, leaving out others.

    Raises: LayoutError for a plane without a frame, mixed planes or an edited object; TooFewCasesError under 3 layouts.
    """
    planes = {layout.plane for layout in layouts}
    if len(planes) > 1 or not planes <= set(FRAMES):
        raise LayoutError(f"layout statistics of {sorted(planes)}; expected one plane of {', '.join(FRAMES)}")
    if any(o.edited for layout in layouts for o in layout.objects) or any(layout.absent for layout in layouts):
        raise LayoutError("layout statistics: a layout is abnormal; expected normal ones only")
    framed = [layout for layout in layouts if layout.find(FRAMES[layout.plane][0]) is not None]
    usable = [layout for layout in framed if relative or tells_size(layout)]
    if len(usable) < 3:
        kind = "with frame" if relative else "in mm with age and frame"
        raise TooFewCasesError(f"layout statistics: {len(usable)} layouts {kind}; expected 3 or more")
    plane = usable[0].plane
    names = tuple(
        n
        for n in STRUCTURE_NAMES
        if n != FRAMES[plane][0] and n not in _RIDERS and sum(layout.find(n) is not None for layout in usable) >= 3
    )
    features = np.stack([_features(layout, names, relative) for layout in usable])
    mean = np.nanmean(features, axis=0)
    trust = len(usable) / (len(usable) + _PRIOR_CASES)
    spread = np.nan_to_num(features - mean)
    covariance = trust * (spread.T @ spread) / max(len(usable) - 1, 1) + (1 - trust) * np.diag(
        _prior(plane, len(names), relative)
    )
    if not relative:
        mean[0] *= trust  # the published mean is the score 0
    if FRAMES[plane][0] == "head":
        mean[1] = trust * mean[1] + (1 - trust) * _HEAD_RATIO
    return PlaneStatistics(plane, not relative, names, mean, covariance, tuple(usable), features)


def _prior(plane: str, structures: int, relative: bool) -> Floats:
    """Return the prior's variances: of the size as published for the age, of the head's shape, else estimates."""
    mean, deviation = expected_mm(plane, ASSUMED_WEEKS)
    ratio = _HEAD_RATIO_SD if FRAMES[plane][0] == "head" else _PRIOR_RATIO
    size = deviation / mean if relative else 1.0
    return np.array([size, ratio] + [_PRIOR_PLACE, _PRIOR_PLACE, _PRIOR_SIZE] * structures) ** 2


def expected_mm(plane: str, weeks: float) -> tuple[float, float]:
    """Return mean and SD in mm of the frame's size at an age: a circumference, of the femur its length.

    A thorax is taken for a fixed share of the abdomen, its spread too. Raises: LayoutError out of 14 to 40 weeks.
    """
    structure, measure = FRAMES[plane]
    share = 1.0
    if structure == "thorax":
        share = biometry.thoracic_circumference_mm(weeks) / biometry.mean_mm("ac", weeks)
    return share * biometry.mean_mm(measure, weeks), share * biometry.sd_mm(measure, weeks)


def frame_size(layout: Layout) -> float:
    """Return the size of a layout's frame in its unit: the circumference, of the femur its length."""
    name = FRAMES[layout.plane][0]
    if name == "femur":
        return edit_limbs.femur_length(layout)
    return circumference(region_of(layout, name), layout.extent)


def sample_layout(statistics: PlaneStatistics, weeks: float | None, rng: np.random.Generator) -> Layout:
    """Return a new normal layout at an age, as `draw_layout`."""
    return draw_layout(statistics, weeks, rng)[0]


def draw_layout(statistics: PlaneStatistics, weeks: float | None, rng: np.random.Generator) -> tuple[Layout, int]:
    """Return a new normal layout, within 2 standard deviations, all structures inside the frame, and whose outlines.

    `weeks`: its age, for the absolute model; a relative one knows none. The number is that of the template, in the
    order of `statistics.templates`. Raises: LayoutError for an age out of 14 to 40 weeks, or where no plausible layout
    is found in 40 tries.
    """
    if statistics.absolute:
        expected_mm(statistics.plane, weeks or 0.0)  # an impossible age is no matter of chance
    deviation = np.sqrt(np.diag(statistics.covariance))
    root = np.linalg.cholesky(statistics.covariance + 1e-12 * np.eye(len(deviation)))
    for _ in range(_TRIES):
        drawn = statistics.mean + root @ rng.standard_normal(len(deviation))
        drawn = np.clip(drawn, statistics.mean - _LIMIT * deviation, statistics.mean + _LIMIT * deviation)
        if statistics.absolute:
            drawn[0] = np.clip(drawn[0], -_LIMIT, _LIMIT)
        number = _near_in_age(statistics.templates, weeks if statistics.absolute else None, rng)
        try:
            made = _realise(statistics, number, drawn, weeks)
        except LayoutError:
            continue
        template = statistics.templates[number]
        if _is_new(made, template) and _plausible(made, template, statistics.names) and _normal(made):
            return made, number
    at = f" at {weeks:g} weeks" if statistics.absolute else ""
    raise LayoutError(f"layout statistics: no plausible {statistics.plane}{at} in {_TRIES} tries")


def _near_in_age(templates: Sequence[Layout], weeks: float | None, rng: np.random.Generator) -> int:
    """Return one of the third of the layouts (at least 3) nearest in age: not all sizes follow the frame's growth."""
    if weeks is None:
        return int(rng.integers(len(templates)))
    order = np.argsort([abs((t.age_weeks or weeks) - weeks) for t in templates], kind="stable")
    return int(rng.choice(order[: max(3, len(templates) // 3)]))


def _normal(layout: Layout) -> bool:
    """Whether what guidelines limit in mm, whatever the head's size, is within its limits."""
    setting = setting_of(layout)
    wide = layout.find("lateral-ventricle") is not None and layout.plane == "transventricular"
    if wide and edit_brain.ventricle_width(layout, setting) >= biometry.ATRIAL_LIMIT_MM:
        return False
    held = layout.find("heart") is not None and layout.find("thorax") is not None
    if held and KINDS["cardiomegaly"].is_reached(edit_heart.heart_ratio(layout, setting)):
        return False
    deep = layout.find("cisterna-magna") is not None
    if deep and edit_brain.cisterna_depth(layout, setting) >= biometry.CISTERNA_MAGNA_LIMIT_MM:
        return False
    if layout.find("renal-pelvis") is None or layout.find("spine") is None:
        return True
    return edit_trunk.urinary_tract_grade(edit_trunk.pelvis_depth(layout, setting), setting.weeks) == "normal"


def frame_score(layout: Layout, weeks: float) -> float:
    """Return the frame's size in standard deviations from the published mean at the age."""
    mean, deviation = expected_mm(layout.plane, weeks)
    return (frame_size(layout) - mean) / deviation


def _features(layout: Layout, names: tuple[str, ...], relative: bool) -> Floats:
    frame = _frame(layout)
    size = np.log(frame_size(layout) / layout.extent) if relative else frame_score(layout, layout.age_weeks or 0.0)
    values = [float(size), float(np.log(frame.radii[1] / frame.radii[0]))]
    for name in names:
        values += _place(layout, name, frame) if layout.find(name) is not None else [np.nan] * 3
    return np.array(values)


def _place(layout: Layout, name: str, frame: _Frame) -> list[float]:
    mask = region_of(layout, name)
    at = frame.axes.T @ (centroid(mask, layout.extent) - frame.centre) / frame.radii
    size = np.sqrt(mask.sum()) * layout.extent / mask.shape[0] / np.sqrt(np.prod(frame.radii))
    return [float(at[0]), float(at[1]), float(np.log(size))]


def _frame(layout: Layout) -> _Frame:
    """Return the frame; its first axis points to the spine or the cavum, the second to the ventricle or stomach."""
    mask = region_of(layout, FRAMES[layout.plane][0])
    centre, axes = centroid(mask, layout.extent), principal_axes(mask)
    first = _toward(layout, centre, ("spine", "csp", "cerebellum"))
    if first is not None:
        if layout.find("spine") is not None:  # a belly is nearly round: its spine tells its direction, not its length
            axis = first / np.hypot(*first)
            axes = np.stack([axis, np.array([-axis[1], axis[0]])], axis=1)
        axes[:, 0] *= np.sign(axes[:, 0] @ first) or 1.0
    second = _toward(layout, centre, ("lateral-ventricle", "stomach", "heart"))
    if second is not None:
        axes[:, 1] *= np.sign(axes[:, 1] @ second) or 1.0
    points = (np.argwhere(mask)[:, ::-1] + 0.5) * layout.extent / mask.shape[0]
    return _Frame(centre, axes, 2 * ((points - centre) @ axes).std(axis=0))


def _toward(layout: Layout, centre: Floats, names: tuple[str, ...]) -> Floats | None:
    found = next((n for n in names if layout.find(n) is not None), None)
    return None if found is None else centroid(region_of(layout, found), layout.extent) - centre


def _realise(statistics: PlaneStatistics, number: int, drawn: Floats, weeks: float | None) -> Layout:
    """Return the template with the drawn size, shape and places."""
    template, known = statistics.templates[number], statistics.features[number]
    if statistics.absolute:
        mean, deviation = expected_mm(statistics.plane, weeks or 0.0)
        wanted, age = mean + drawn[0] * deviation, weeks
    else:
        wanted, age = float(np.exp(drawn[0])) * template.extent, None
    grow = wanted / frame_size(template)
    bend = np.exp((drawn[1] - known[1]) / 2)
    frame = _frame(template)
    scale = grow * np.array([1 / bend, bend])
    matrix = frame.axes @ np.diag(scale) @ frame.axes.T
    objects: list[LayoutObject] = []
    for item in template.objects:
        whole = moved(item, template.extent, matrix, frame.centre, np.zeros(2))
        group = _RIDERS.get(item.structure, item.structure)
        if group in statistics.names and template.find(group) is not None:
            k = 2 + 3 * statistics.names.index(group)
            shift = frame.axes @ ((drawn[k : k + 2] - known[k : k + 2]) * frame.radii * scale)
            about = centroid(region_of(template, group), template.extent)
            about = frame.centre + matrix @ (about - frame.centre)
            whole = moved(whole, template.extent, np.exp(drawn[k + 2] - known[k + 2]) * np.eye(2), about, shift)
        objects.append(replace(whole, edited=False))
    return replace(template, objects=tuple(objects), age_weeks=age, age_derived=False)


def _is_new(made: Layout, template: Layout) -> bool:
    """Whether no mask is the template's again: a change of less than a pixel leaves a mask as it was."""
    pairs = zip(made.objects, template.objects, strict=True)
    return not any(o.mask is not None and t.mask is not None and np.array_equal(o.mask, t.mask) for o, t in pairs)


def _plausible(made: Layout, template: Layout, names: tuple[str, ...]) -> bool:
    """Whether all lies in the frame, and no two structures overlap that did not."""
    size = region_of(made, FRAMES[made.plane][0]).shape[0]
    drawn = {n: [region_of(x, n) for x in (made, template)] for n in names if made.find(n) is not None}
    frame = [region(x.all(FRAMES[x.plane][0])[0], x.extent, size) for x in (made, template)]
    for name, (new, old) in drawn.items():
        if (new & ~frame[0]).sum() > (old & ~frame[1]).sum() + 2:
            return False
        for other, (beside, before) in drawn.items():
            if other > name and (new & beside).sum() > 1.5 * (old & before).sum() + 2:
                return False
    return True
