"""Edits inside the head: ventricle, cavum, cisterna magna, cyst of the choroid plexus."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from fetalflex.anatomy.editing import Floats, Setting, along_axes, moved, short_diameter, solve, with_mask
from fetalflex.anatomy.layout import Box, Layout, LayoutObject, Mask, signed_distance
from fetalflex.anatomy.measure import (
    atrial_width,
    centroid,
    cephalic_index,
    depth,
    diameter_of,
    ellipse_diameters,
    grid_size,
    principal_axes,
    region,
    region_of,
)
from fetalflex.anatomy.ontology import structure
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.errors import AnomalyError

_LENGTH_OVER_WIDTH = 1.3  # of a dilated ventricle, at least
_MINOR_PART = 0.25  # a second ventricle is widened too where it has at least this share of the first one's area
_MIDLINE = 0.01  # of the head's short diameter: how far beside the midline a caliper may stand
_SMOOTH = 0.15  # of a wide ventricle's width: the standard deviation under which its outline is smoothed
_FALX = 0.03  # of the head's short diameter: how far beyond the midline a wide ventricle may bulge
_ONE_SIDED = 0.9  # share of a ventricle on one side of the midline from which it counts as that side's
_ROUND = 90.0  # cephalic index from which a head's outline does not tell its long axis well
_CYST_SHAPE = 0.75  # a cyst's short diameter over its long one, at most


def ventricle_width(layout: Layout, setting: Setting) -> float:
    """Return the atrial width in mm; of a ventricle known by its box, the short side."""
    ventricle = layout.find("lateral-ventricle")
    if ventricle is not None and ventricle.is_box:
        x0, y0, x1, y1 = ventricle.box
        return min(x1 - x0, y1 - y0) * setting.millimetres
    return atrial_width(region_of(layout, "lateral-ventricle"), layout.extent) * setting.millimetres


def widen_ventricle(layout: Layout, severity: float, setting: Setting, rng: np.random.Generator) -> Layout:
    """Widen the lateral ventricle about its own axis until its atrium has that width (mm), inside the skull.

    What lies on one side of the midline stays there: the falx is stiff.
    """
    ventricle, head = layout.find("lateral-ventricle"), layout.find("head")
    if ventricle is None or head is None:  # apply_anomaly has told the caller already
        raise AnomalyError("ventriculomegaly: the layout lacks its lateral-ventricle or its head")
    width = severity / setting.millimetres
    if (ventricle.mask is None or not ventricle.mask.any()) and ventricle.shape is None:
        return layout.replaced(replace(ventricle, box=_widened_box(ventricle.box, head.box, width), edited=True))
    whole = region_of(layout, "lateral-ventricle")
    inside = skull_room(layout, head)
    sides = None if head.is_box else _beside_midline(region_of(layout, "head"))
    mask = _widened_mask(whole, inside, sides, width, layout.extent, float(rng.uniform(1.0, 1.1)))
    return layout.replaced(with_mask(ventricle, mask, layout.extent, "ventriculomegaly"))


def skull_room(layout: Layout, head: LayoutObject) -> Mask:
    """Return where things in the head may be: the head less the inner half of its skull's echo.

    Of 289 ventricles that experts outlined, 95 % keep a tenth of the short diameter from the head's outline, and all
    but one 6 % of it (docs/results.md, "Ventricles that ate the skull").
    """
    skull = structure("head").wall[1]
    size = grid_size(layout)
    if head.is_box:
        x0, y0, x1, y1 = head.box
        centres = (np.arange(size) + 0.5) * layout.extent / size
        dx, dy = (centres - (x0 + x1) / 2) / ((x1 - x0) / 2), (centres - (y0 + y1) / 2) / ((y1 - y0) / 2)
        return np.asarray(dx[None] ** 2 + dy[:, None] ** 2 < (1 - 2 * skull) ** 2)
    inner = ndimage.distance_transform_edt(np.pad(region(head, layout.extent, size), 1))[1:-1, 1:-1]
    return np.asarray(inner > skull * short_diameter(layout) * size / layout.extent)


def _beside_midline(head: Mask) -> Floats | None:
    """Return how far each pixel lies beside the head's long axis, over its short diameter: signed, [S, S].

    None for a round head, whose outline does not tell where its midline is.
    """
    if cephalic_index(head, 1.0) > _ROUND:
        return None
    rows, columns = np.indices(head.shape)
    x, y = centroid(head, float(head.shape[0]))
    across = principal_axes(head)[:, 1]
    short = ellipse_diameters(head, float(head.shape[0]))[1]
    return np.asarray(((columns + 0.5 - x) * across[0] + (rows + 0.5 - y) * across[1]) / short)


def _own_side(part: Mask, sides: Floats | None) -> Mask:
    """Return where a part of the ventricle may grow: its own side; everywhere where it lies on both."""
    everywhere = np.ones_like(part)
    if sides is None:
        return everywhere
    side = np.sign(np.median(sides[part]))
    own = np.asarray(sides * side > -_FALX)
    return own if own[part].mean() >= _ONE_SIDED else everywhere


def _widened_mask(mask: Mask, inside: Mask, sides: Floats | None, width: float, extent: float, stretch: float) -> Mask:
    """Widen each large part of a mask about its centre; nearer to its room's middle where that is in the way."""
    if atrial_width(mask, extent) >= width:
        raise AnomalyError(
            f"ventriculomegaly: the ventricle is {atrial_width(mask, extent):.3g} wide already; expected less than "
            f"the {width:.3g} asked for (layout units)"
        )
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    result = mask.copy()
    for label in np.nonzero(areas >= _MINOR_PART * areas.max())[0] + 1:
        room = inside & _own_side(parts == label, sides)
        middle = np.argwhere(room).mean(axis=0) if room.any() else np.array(mask.shape) / 2
        result |= _widened_part(parts == label, room, width, extent, stretch, middle)
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
    best, shape, smooth = 0.0, part, _SMOOTH * width / pixel
    for shift in (0.0, 0.15, 0.3, 0.45):
        target = centre + shift * (middle - centre)
        low, high = 1.0, 12.0
        for _ in range(14):
            factor = (low + high) / 2
            grown = _smoothed(_scaled(field, centre, target, axes, (factor, stretch)), smooth) & inside
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
    shifted = ndimage.affine_transform(field, inverse, centre - inverse @ target, order=1, mode="nearest")
    return np.asarray(shifted > 0)


def _smoothed(mask: Mask, deviation: float) -> Mask:
    """Return a mask without bumps: widening a thin outline magnifies its pixels' stairs."""
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), deviation, mode="constant") > 0.5)


def _widened_box(box: Box, head: Box, width: float) -> Box:
    """Widen the short side of a box (taken for the atrial width) about its centre, kept inside the head's box."""
    short = 0 if box[2] - box[0] <= box[3] - box[1] else 1
    if box[short + 2] - box[short] >= width:
        raise AnomalyError("ventriculomegaly: the ventricle's box is as wide already; expected a narrower one")
    sides = [(box[0], box[2]), (box[1], box[3])]
    # As for masks: a ventricle that gets wider than it was long grows in length, too.
    length = max(sides[1 - short][1] - sides[1 - short][0], min(_LENGTH_OVER_WIDTH * width, _long_side(head)))
    for side, size in ((short, width), (1 - short, length)):
        low, high = head[side], head[side + 2]
        if high - low < size:
            raise AnomalyError("ventriculomegaly: the head's box is narrower than the width asked for; ask for less")
        if size > sides[side][1] - sides[side][0]:
            start = min(max(sum(sides[side]) / 2 - size / 2, low), high - size)
            sides[side] = (start, start + size)
    return (sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def _long_side(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def cyst_diameter(layout: Layout, setting: Setting) -> float:
    """Return the longest diameter in mm of a cyst of the choroid plexus; 0 where there is none."""
    return diameter_of(layout, "choroid-plexus-cyst") * setting.millimetres


def add_cyst(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Add a cyst of that longest diameter (mm) where the ventricle is widest, along its axis and inside it."""
    ventricle = region_of(layout, "lateral-ventricle")
    long = severity / setting.millimetres / 2
    field = signed_distance(ventricle) * layout.extent / ventricle.shape[0]
    turn = principal_axes(ventricle)[:, 0]
    at = np.unravel_index(int(field.argmax()), field.shape)
    middle = (np.array(at[::-1], float) + 0.5) * layout.extent / ventricle.shape[0]
    angle = float(np.degrees(np.arctan2(turn[1], turn[0])))
    short = min(_CYST_SHAPE * long, 0.95 * float(field.max()))
    for share in (1.0, 0.85, 0.7, 0.55):  # a long cyst must be slender to stay inside a band that narrows
        shape = Ellipse((float(middle[0]), float(middle[1])), (long, share * short), angle)
        drawn = shape.draw(layout.extent, ventricle.shape[0])
        if drawn.any() and not (drawn & ~ndimage.binary_dilation(ventricle)).any():
            return layout.replaced(LayoutObject.of("choroid-plexus-cyst", shape, edited=True))
    raise AnomalyError(
        f"choroid-plexus-cyst: the ventricle has no room for {severity:g} mm; ask for less, or widen it first"
    )


def cisterna_depth(layout: Layout, setting: Setting) -> float:
    """Return the depth in mm of the cisterna magna along the head's midline, where the caliper stands."""
    axis = principal_axes(region_of(layout, "head"))[:, 0]
    return _midline_depth(layout, region_of(layout, "cisterna-magna"), axis) * setting.millimetres


def _midline_depth(layout: Layout, cisterna: Mask, axis: Floats) -> float:
    """Return the depth near the midline; the longest anywhere, where the midline misses the cisterna."""
    head = region_of(layout, "head")
    through = (centroid(head, layout.extent), _MIDLINE * ellipse_diameters(head, layout.extent)[1])
    found = depth(cisterna, layout.extent, axis, through)
    return found or depth(cisterna, layout.extent, axis)


def deepen_cisterna(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Deepen the cisterna magna from the occiput forwards to that depth (mm); the cerebellum moves forwards."""
    cisterna = layout.find("cisterna-magna")
    if cisterna is None:
        raise AnomalyError("enlarged-cisterna-magna: the layout lacks its cisterna-magna")
    extent, head, mask = layout.extent, region_of(layout, "head"), region_of(layout, "cisterna-magna")
    axes = principal_axes(head)
    forward = axes[:, 0] * np.sign(float((centroid(head, extent) - centroid(mask, extent)) @ axes[:, 0]) or 1.0)
    before, wanted = _midline_depth(layout, mask, axes[:, 0]), severity / setting.millimetres
    if before >= wanted:
        raise AnomalyError(
            f"enlarged-cisterna-magna: it is {before * setting.millimetres:.1f} mm deep already; expected less than "
            f"{severity:g} mm"
        )
    points = (np.argwhere(mask)[:, ::-1] + 0.5) * extent / mask.shape[0]
    anchor = centroid(mask, extent)
    anchor = anchor + forward * float(((points - anchor) @ forward).min())

    def stretched(factor: float) -> LayoutObject:
        return moved(cisterna, extent, along_axes(axes, factor, 1.0), anchor, np.zeros(2))

    def measured(factor: float) -> float:
        return _midline_depth(layout, region(stretched(factor), extent, mask.shape[0]), axes[:, 0])

    factor = solve(measured, wanted, (1.0, 1.3 * wanted / before), 12)
    push = forward * (measured(factor) - before)
    cerebellum = [moved(o, extent, np.eye(2), np.zeros(2), push) for o in layout.all("cerebellum")]
    changed = layout.replaced(stretched(factor), *cerebellum)
    _check_room(changed)
    return changed


def _check_room(layout: Layout) -> None:
    """Raises: AnomalyError where the cerebellum has left the head or lies on the thalami or the cavum."""
    if layout.find("cerebellum") is None:
        return
    cerebellum, head = region_of(layout, "cerebellum"), region_of(layout, "head")
    taken = [region_of(layout, n) for n in ("thalami", "csp") if layout.find(n) is not None]
    out = (cerebellum & ~head).sum() > 0.02 * cerebellum.sum()
    if out or any((cerebellum & t).sum() > 0.10 * cerebellum.sum() for t in taken):
        raise AnomalyError("enlarged-cisterna-magna: the head has no room for the cerebellum before it; ask for less")


def cavum_absent(layout: Layout, setting: Setting) -> float:  # noqa: ARG001 - there or not
    """Return 1 where the cavum's absence is asked, else 0."""
    return float("csp" in layout.absent)


def remove_cavum(layout: Layout, severity: float, setting: Setting) -> Layout:  # noqa: ARG001 - there or not
    """Ask for the absence of the cavum septi pellucidi."""
    return layout.without("csp")
