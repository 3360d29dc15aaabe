"""A small generative model of normal layouts of one plane: new anatomy, not copies of training masks.

What is modelled is where things lie and how large they are: the size of the part that frames the plane (as a score of
the published biometry, so that few layouts already give plausible ages), its shape, and place and size of each
structure in it. Outlines are those of a training layout, moved and scaled; a new outline is not invented.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy import biometry, edit_brain, edit_trunk
from fetalflex.anatomy.editing import moved, setting_of
from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.measure import centroid, circumference, principal_axes, region, region_of
from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.errors import LayoutError, TooFewCasesError

Floats = npt.NDArray[np.float64]
FRAMES: dict[str, tuple[str, biometry.Measure]] = {
    "transventricular": ("head", "hc"), "transthalamic": ("head", "hc"), "transcerebellar": ("head", "hc"),
    "brain": ("head", "hc"), "abdomen": ("abdomen", "ac"), "kidneys": ("abdomen", "ac"),
}  # fmt: skip
_RIDERS = {"renal-pelvis": "kidney"}  # they move with what holds them
_PRIOR_CASES = 8.0  # how many layouts the prior is worth
# Standard deviations of the prior: log ratio of the frame's radii; place (in its radii) and log size of a structure.
_PRIOR_RATIO, _PRIOR_PLACE, _PRIOR_SIZE = 0.04, 0.03, 0.08
_LIMIT = 2.0  # standard deviations: what is sampled stays within
_TRIES = 40


@dataclass(frozen=True, eq=False)
class PlaneStatistics:
    """Mean and covariance of (score, log ratio, then x, y, log size of each structure) and the layouts behind them."""

    plane: str
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


def fit_statistics(layouts: Sequence[Layout]) -> PlaneStatistics:
    """Fit the model to normal layouts of one plane, in mm with an age (others tell no size, and are left out).

    Raises: LayoutError for a plane without a frame, mixed planes or an edited object; TooFewCasesError under 3 layouts.
    """
    planes = {layout.plane for layout in layouts}
    if len(planes) > 1 or not planes <= set(FRAMES):
        raise LayoutError(f"layout statistics of {sorted(planes)}; expected one plane of {', '.join(FRAMES)}")
    if any(o.edited for layout in layouts for o in layout.objects) or any(layout.absent for layout in layouts):
        raise LayoutError("layout statistics: a layout is abnormal; expected normal ones only")
    usable = [
        layout
        for layout in layouts
        if layout.unit == "mm" and layout.age_weeks is not None and layout.find(FRAMES[layout.plane][0]) is not None
    ]
    if len(usable) < 3:
        raise TooFewCasesError(f"layout statistics: {len(usable)} layouts in mm with age and frame; expected 3 or more")
    plane = usable[0].plane
    names = tuple(
        n
        for n in STRUCTURE_NAMES
        if n != FRAMES[plane][0] and n not in _RIDERS and sum(layout.find(n) is not None for layout in usable) >= 3
    )
    features = np.stack([_features(layout, names) for layout in usable])
    prior = np.array([1.0, _PRIOR_RATIO] + [_PRIOR_PLACE, _PRIOR_PLACE, _PRIOR_SIZE] * len(names)) ** 2
    mean = np.nanmean(features, axis=0)
    trust = len(usable) / (len(usable) + _PRIOR_CASES)
    mean[0] *= trust  # the published mean is the score 0
    spread = np.nan_to_num(features - np.nanmean(features, axis=0))
    covariance = trust * (spread.T @ spread) / max(len(usable) - 1, 1) + (1 - trust) * np.diag(prior)
    return PlaneStatistics(plane, names, mean, covariance, tuple(usable), features)


def sample_layout(statistics: PlaneStatistics, weeks: float, rng: np.random.Generator) -> Layout:
    """Return a new normal layout at an age: within 2 standard deviations, all structures inside the frame.

    Raises: LayoutError for an age out of 14 to 40 weeks, or where no plausible layout is found in 40 tries.
    """
    deviation = np.sqrt(np.diag(statistics.covariance))
    root = np.linalg.cholesky(statistics.covariance + 1e-12 * np.eye(len(deviation)))
    for _ in range(_TRIES):
        drawn = statistics.mean + root @ rng.standard_normal(len(deviation))
        drawn = np.clip(drawn, statistics.mean - _LIMIT * deviation, statistics.mean + _LIMIT * deviation)
        drawn[0] = np.clip(drawn[0], -_LIMIT, _LIMIT)
        number = _near_in_age(statistics.templates, weeks, rng)
        try:
            made = _realise(statistics, number, drawn, weeks)
        except LayoutError:
            biometry.mean_mm(FRAMES[statistics.plane][1], weeks)  # an impossible age is no matter of chance
            continue
        if _plausible(made, statistics.templates[number], statistics.names) and _normal(made):
            return made
    raise LayoutError(f"layout statistics: no plausible {statistics.plane} at {weeks:g} weeks in {_TRIES} tries")


def _near_in_age(templates: Sequence[Layout], weeks: float, rng: np.random.Generator) -> int:
    """Return one of the third of the layouts (at least 3) nearest in age: not all sizes follow the frame's growth."""
    order = np.argsort([abs((t.age_weeks or weeks) - weeks) for t in templates], kind="stable")
    return int(rng.choice(order[: max(3, len(templates) // 3)]))


def _normal(layout: Layout) -> bool:
    """Whether what guidelines limit in mm, whatever the head's size, is within its limits."""
    setting = setting_of(layout)
    wide = layout.find("lateral-ventricle") is not None and layout.plane == "transventricular"
    if wide and edit_brain.ventricle_width(layout, setting) >= biometry.ATRIAL_LIMIT_MM:
        return False
    deep = layout.find("cisterna-magna") is not None
    if deep and edit_brain.cisterna_depth(layout, setting) >= biometry.CISTERNA_MAGNA_LIMIT_MM:
        return False
    if layout.find("renal-pelvis") is None or layout.find("spine") is None:
        return True
    return edit_trunk.urinary_tract_grade(edit_trunk.pelvis_depth(layout, setting), setting.weeks) == "normal"


def frame_score(layout: Layout, weeks: float) -> float:
    """Return the frame's circumference in standard deviations from the published mean at the age."""
    name, measure = FRAMES[layout.plane]
    size = circumference(region_of(layout, name), layout.extent)
    return (size - biometry.mean_mm(measure, weeks)) / biometry.sd_mm(measure, weeks)


def _features(layout: Layout, names: tuple[str, ...]) -> Floats:
    frame = _frame(layout)
    values = [frame_score(layout, layout.age_weeks or 0.0), float(np.log(frame.radii[1] / frame.radii[0]))]
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
    second = _toward(layout, centre, ("lateral-ventricle", "stomach"))
    if second is not None:
        axes[:, 1] *= np.sign(axes[:, 1] @ second) or 1.0
    points = (np.argwhere(mask)[:, ::-1] + 0.5) * layout.extent / mask.shape[0]
    return _Frame(centre, axes, 2 * ((points - centre) @ axes).std(axis=0))


def _toward(layout: Layout, centre: Floats, names: tuple[str, ...]) -> Floats | None:
    found = next((n for n in names if layout.find(n) is not None), None)
    return None if found is None else centroid(region_of(layout, found), layout.extent) - centre


def _realise(statistics: PlaneStatistics, number: int, drawn: Floats, weeks: float) -> Layout:
    """Return the template with the drawn size, shape and places."""
    template, known = statistics.templates[number], statistics.features[number]
    name, measure = FRAMES[statistics.plane]
    wanted = biometry.mean_mm(measure, weeks) + drawn[0] * biometry.sd_mm(measure, weeks)
    grow = wanted / circumference(region_of(template, name), template.extent)
    bend = np.exp((drawn[1] - known[1]) / 2)
    frame = _frame(template)
    scale = grow * np.array([1 / bend, bend])
    matrix = frame.axes @ np.diag(scale) @ frame.axes.T
    objects: list[LayoutObject] = []
    for item in template.objects:
        whole = moved(item, template.extent, matrix, frame.centre, np.zeros(2))
        group = _RIDERS.get(item.structure, item.structure)
        if group in statistics.names:
            k = 2 + 3 * statistics.names.index(group)
            shift = frame.axes @ ((drawn[k : k + 2] - known[k : k + 2]) * frame.radii * scale)
            about = centroid(region_of(template, group), template.extent)
            about = frame.centre + matrix @ (about - frame.centre)
            whole = moved(whole, template.extent, np.exp(drawn[k + 2] - known[k + 2]) * np.eye(2), about, shift)
        objects.append(replace(whole, edited=False))
    return replace(template, objects=tuple(objects), age_weeks=float(weeks), age_derived=False)


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
