"""Anomalies: edits that turn a normal layout into an abnormal one, with a severity in clinical units.

The generator never sees an abnormal image in training: the edit is made in the layout, and the edited object is
marked, so that no adaptation heals it away.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.anatomy import biometry
from fetalflex.anatomy.layout import Box, Layout, LayoutObject, Mask, mask_box
from fetalflex.errors import AnomalyError

Floats = npt.NDArray[np.float64]
ASSUMED_WEEKS = 22.0  # the usual age of the anatomy scan, where a layout does not state its own
_FINE = 5  # sub-pixels a side when a width is measured; odd, so that pixel centres stay sampled
_LENGTH_OVER_WIDTH = 1.3  # of a dilated ventricle, at least
_MINOR_PART = 0.25  # a second ventricle is widened too where it has at least this share of the first one's area


@dataclass(frozen=True)
class Anomaly:
    """An anomaly that can be asked for. `severity` is the range (low, high) in `unit`."""

    name: str
    planes: tuple[str, ...]
    structure: str
    unit: str
    severity: tuple[float, float]
    definition: str
    source: str
    edit: Callable[[Layout, float, np.random.Generator], Layout]


def apply_anomaly(layout: Layout, name: str, severity: float, rng: np.random.Generator) -> Layout:
    """Return the layout with an anomaly of that severity (in the anomaly's unit); all other objects are unchanged.

    Raises: AnomalyError for an unknown anomaly, another plane, a severity out of range, a missing structure, a
    structure that is as wide already, or no room in the head.
    """
    if name not in ANOMALIES:
        raise AnomalyError(f"anomaly {name!r} is unknown; expected one of {', '.join(sorted(ANOMALIES))}")
    anomaly = ANOMALIES[name]
    low, high = anomaly.severity
    if not low <= severity <= high:
        raise AnomalyError(f"{name}: severity {severity:g} {anomaly.unit}; expected {low:g} to {high:g}")
    if layout.plane not in anomaly.planes:
        raise AnomalyError(f"{name}: cannot be shown on plane {layout.plane!r}; expected {', '.join(anomaly.planes)}")
    for structure in (anomaly.structure, "head"):
        if layout.find(structure) is None:
            raise AnomalyError(f"{name}: the layout has no {structure!r}; expected one that has it as box or mask")
    return anomaly.edit(layout, severity, rng)


def ventriculomegaly_grade(width_mm: float) -> str:
    """Return normal (< 10 mm), mild (10 to 12), moderate (above 12, to 15) or severe (above 15).

    Source: SMFM Consult Series 45, Am J Obstet Gynecol 2018;219:B2-B9; ISUOG guidelines on the fetal CNS, 2020/21.
    """
    return (
        "normal" if width_mm < 10 else "mild" if width_mm <= 12 else "moderate" if width_mm <= 15 else "severe"
    )  # fmt: skip


def atrial_width(mask: Mask, extent: float) -> float:
    """Return the width of a ventricle: the diameter of the largest circle that fits inside it, in layout units.

    The guideline's caliper stands at the atrium, across the ventricle's axis, inner edge to inner edge; the
    ventricle is widest there, and across its axis that is the largest inscribed circle, whatever its curve.
    Accurate to about 1/5 pixel. mask: bool [S, S]; an empty mask is 0.
    """
    if not mask.any():
        return 0.0
    ys, xs = np.nonzero(mask)
    part = np.pad(mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1], 1)
    fine = np.kron(part, np.ones((_FINE, _FINE), bool))
    radius = float(ndimage.distance_transform_edt(fine).max()) - 0.5  # centre to centre -> centre to edge
    return float(2 * radius / _FINE * extent / mask.shape[0])


def millimetres_per_unit(layout: Layout) -> float:
    """Return mm per layout unit: 1 in mm layouts; else from the head, taking its short diameter for the mean
    biparietal diameter at the layout's age (22 weeks where it states none), so an estimate.
    """
    if layout.unit == "mm":
        return 1.0
    head = layout.find("head")
    if head is None:
        raise AnomalyError("the layout has neither spacing nor head; expected one of them to know its size")
    weeks = ASSUMED_WEEKS if layout.age_weeks is None else layout.age_weeks
    return biometry.biparietal_diameter_mm(weeks) / _short_diameter(head, layout.extent)


def _short_diameter(item: LayoutObject, extent: float) -> float:
    """Return the minor axis of the ellipse with the mask's second moments, or the box's short side."""
    if item.mask is None or not item.mask.any():
        x0, y0, x1, y1 = item.box
        return min(x1 - x0, y1 - y0)
    points = np.argwhere(item.mask).astype(float)
    return float(4 * np.sqrt(np.linalg.eigvalsh(np.cov(points.T))[0]) * extent / item.mask.shape[0])


def _widen_ventricle(layout: Layout, severity: float, rng: np.random.Generator) -> Layout:
    ventricle, head = layout.find("lateral-ventricle"), layout.find("head")
    if ventricle is None or head is None:  # apply_anomaly has told the caller already
        raise AnomalyError("ventriculomegaly: the layout lacks its lateral-ventricle or its head")
    width = severity / millimetres_per_unit(layout)
    if ventricle.mask is None or not ventricle.mask.any():
        return layout.replaced(replace(ventricle, box=_widened_box(ventricle.box, head.box, width), edited=True))
    inside = _room(head, layout.extent, ventricle.mask.shape[0])
    mask = _widened_mask(ventricle.mask, inside, width, layout.extent, float(rng.uniform(1.0, 1.1)))
    box = mask_box(mask, layout.extent)
    if box is None:
        raise AnomalyError("ventriculomegaly: the ventricle lies outside the head; expected it inside")
    return layout.replaced(replace(ventricle, mask=mask, box=box, edited=True))


def _room(head: LayoutObject, extent: float, size: int) -> Mask:
    """Return where a ventricle may be: the head less its skull (3 % of its short diameter)."""
    if head.mask is not None and head.mask.any():
        inner = ndimage.distance_transform_edt(np.pad(head.mask, 1))[1:-1, 1:-1]
        return np.asarray(inner > 0.03 * _short_diameter(head, float(size)))
    x0, y0, x1, y1 = head.box
    centres = (np.arange(size) + 0.5) * extent / size
    dx, dy = (centres - (x0 + x1) / 2) / ((x1 - x0) / 2), (centres - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return np.asarray(dx[None] ** 2 + dy[:, None] ** 2 < 0.97**2)


def _widened_mask(mask: Mask, inside: Mask, width: float, extent: float, stretch: float) -> Mask:
    """Widen each large part of a mask about its centre; nearer to the head's centre where the skull is in the way."""
    if atrial_width(mask, extent) >= width:
        raise AnomalyError(
            f"ventriculomegaly: the ventricle is {atrial_width(mask, extent):.3g} wide already; expected less than "
            f"the {width:.3g} asked for (layout units)"
        )
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    result = mask.copy()
    middle = np.argwhere(inside).mean(axis=0) if inside.any() else np.array(mask.shape) / 2
    for label in np.nonzero(areas >= _MINOR_PART * areas.max())[0] + 1:
        result |= _widened_part(parts == label, inside, width, extent, stretch, middle)
    return result & inside


def _widened_part(part: Mask, inside: Mask, width: float, extent: float, stretch: float, middle: Floats) -> Mask:
    pixel = extent / part.shape[0]
    field = ndimage.distance_transform_edt(part) - ndimage.distance_transform_edt(~part)  # signed: smooth at the edge
    points = np.argwhere(part).astype(float)
    centre = points.mean(axis=0)
    spread = np.cov(points.T) if len(points) > 2 else np.eye(2)
    axes = np.linalg.eigh(spread)[1]  # columns: short axis, long axis
    along = (points - centre) @ axes[:, 1]
    # An annotation may show the atrium alone: a ventricle wider than it was long must grow in length, too.
    stretch = max(stretch, _LENGTH_OVER_WIDTH * width / ((float(np.ptp(along)) + 1) * pixel))
    best, shape = 0.0, part
    for shift in (0.0, 0.15, 0.3, 0.45):
        target = centre + shift * (middle - centre)
        low, high = 1.0, 12.0
        for _ in range(14):
            factor = (low + high) / 2
            grown = _scaled(field, centre, target, axes, (factor, stretch)) & inside
            reached = atrial_width(grown, extent)
            if abs(reached - width) < abs(best - width):
                best, shape = reached, grown
            low, high = (factor, high) if reached < width else (low, factor)
        if abs(best - width) <= 0.5 * pixel:
            return shape
    if abs(best - width) <= pixel:
        return shape
    raise AnomalyError(
        f"ventriculomegaly: the head has room for a width of {best:.3g}, not for the {width:.3g} asked for "
        "(layout units); ask for less or take a larger head"
    )


def _scaled(field: Floats, centre: Floats, target: Floats, axes: Floats, factors: tuple[float, float]) -> Mask:
    """Return where the field, scaled along its two axes about `centre` and moved to `target`, is positive."""
    inverse = axes @ np.diag([1 / factors[0], 1 / factors[1]]) @ axes.T
    moved = ndimage.affine_transform(field, inverse, centre - inverse @ target, order=1, mode="nearest")
    return np.asarray(moved > 0)


def _widened_box(box: Box, head: Box, width: float) -> Box:
    """Widen the short side of a box (taken for the atrial width) about its centre, kept inside the head's box."""
    x0, y0, x1, y1 = box
    short = 0 if x1 - x0 <= y1 - y0 else 1
    if (x1 - x0, y1 - y0)[short] >= width:
        raise AnomalyError("ventriculomegaly: the ventricle's box is as wide already; expected a narrower one")
    low, high = head[short], head[short + 2]
    if high - low < width:
        raise AnomalyError("ventriculomegaly: the head's box is narrower than the width asked for; ask for less")
    start = min(max((box[short] + box[short + 2] - width) / 2, low), high - width)
    return (start, y0, start + width, y1) if short == 0 else (x0, start, x1, start + width)


ANOMALIES: dict[str, Anomaly] = {
    "ventriculomegaly": Anomaly(
        "ventriculomegaly",
        ("transventricular", "transthalamic", "brain"),
        "lateral-ventricle",
        "mm",
        (10.0, 25.0),
        "Atrial width of a lateral ventricle of 10 mm or more: mild 10-12, moderate 13-15, severe above 15",
        "SMFM Consult Series 45, Am J Obstet Gynecol 2018;219:B2-B9; ISUOG Practice Guidelines (fetal CNS), 2020/21",
        _widen_ventricle,
    )
}
