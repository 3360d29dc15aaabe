"""Edits of the heart on the four-chamber view: its size, holes in its septa, one ventricle instead of two."""

from dataclasses import replace

import numpy as np

from fetalflex.anatomy.editing import Floats, Setting, moved, solve, with_mask
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask
from fetalflex.anatomy.measure import centroid, circumference, grid_size, reach, region, region_of
from fetalflex.anatomy.shapes import Polyline
from fetalflex.errors import AnomalyError

CHAMBERS = ("left-ventricle", "right-ventricle", "left-atrium", "right-atrium")
_OVERLAP = 0.12  # of the ventricles' distance: how far a hole reaches into the chambers beside it


def heart_ratio(layout: Layout, setting: Setting) -> float:  # noqa: ARG001 - a ratio needs no scale
    """Return the circumference of the heart over that of the thorax."""
    heart, thorax = (circumference(region_of(layout, n), layout.extent) for n in ("heart", "thorax"))
    return heart / thorax


def enlarge_heart(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Scale the heart with its chambers until its cardiothoracic ratio is that; it stays inside the thorax."""
    extent, size = layout.extent, grid_size(layout)
    heart, thorax = region_of(layout, "heart"), region_of(layout, "thorax")
    found = heart_ratio(layout, setting)
    if found >= severity:
        raise AnomalyError(f"cardiomegaly: the ratio is {found:.2f} already; expected less than {severity:g}")
    centre, middle = centroid(heart, extent), centroid(thorax, extent)
    names = ("heart", *CHAMBERS, "septal-defect")
    items = [o for o in layout.objects if o.structure in names]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):  # a heart too near to the wall moves towards the middle
        shift = share * (middle - centre)

        def grown(factor: float, shift: Floats = shift) -> list[LayoutObject]:
            return [moved(o, extent, factor * np.eye(2), centre, shift) for o in items]

        def measured(factor: float) -> float:
            one = layout.replaced(*[o for o in grown(factor) if o.structure == "heart"])
            return heart_ratio(one, setting)

        guess = severity / found
        factor = solve(measured, severity, (0.95 * guess, 1.05 * guess), 10)
        changed = layout.replaced(*grown(factor))
        drawn = region_of(changed, "heart")
        if not (drawn & ~thorax).any() and not _covers_spine(changed, drawn, size):
            return changed
    raise AnomalyError(f"cardiomegaly: the thorax has no room for a heart of ratio {severity:g}; ask for less")


def _covers_spine(layout: Layout, heart: Mask, size: int) -> bool:
    spine = [region(o, layout.extent, size) for o in layout.all("spine")]
    return any((s & heart).sum() > 0.25 * s.sum() for s in spine)


def septum(layout: Layout) -> tuple[Floats, Floats, Floats, float]:
    """Return the septum's crux (x, y), its unit vectors to the apex and to the left, and its length to the apex.

    All from the four chambers' places: the crux lies between ventricles and atria, and between left and right.
    """
    extent = layout.extent
    lv, rv, la, ra = (region_of(layout, name) for name in CHAMBERS)
    ventricles, atria = lv | rv, la | ra
    apex = centroid(ventricles, extent) - centroid(atria, extent)
    apex = apex / np.hypot(*apex)
    left = np.array([-apex[1], apex[0]])
    left = left * np.sign(float((centroid(lv, extent) - centroid(rv, extent)) @ left) or 1.0)
    scale = extent / lv.shape[0]

    def along(mask: Mask, axis: Floats) -> Floats:
        return np.asarray((np.argwhere(mask)[:, ::-1] + 0.5) @ axis * scale)

    base = (along(ventricles, apex).min() + along(atria, apex).max()) / 2
    # The middle between the inner edges of left and right: of the ventricles, whose septum it is.
    between = (np.percentile(along(lv, left), 2) + np.percentile(along(rv, left), 98)) / 2
    length = float(min(along(lv, apex).max(), along(rv, apex).max()) - base)
    return base * apex + between * left, apex, left, length


def defect_length(layout: Layout, setting: Setting) -> float:
    """Return the length in mm of a septal defect along the septum; 0 where there is none."""
    if layout.find("septal-defect") is None:
        return 0.0
    _, apex, _, _ = septum(layout)
    return reach_along(layout, apex) * setting.millimetres


def reach_along(layout: Layout, axis: Floats) -> float:
    """Return the defect's extent along an axis: of its corners where it has an outline, else of its pixels."""
    found = layout.all("septal-defect")
    if all(isinstance(o.shape, Polyline) and o.mask is None for o in found):
        places = [float(np.array(p) @ axis) for o in found if isinstance(o.shape, Polyline) for p in o.shape.points]
        return max(places) - min(places)
    return reach(region_of(layout, "septal-defect"), layout.extent, axis)


def open_ventricular_septum(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Add a hole of that length (mm) in the septum between the ventricles, in its upper half."""
    crux, apex, left, length = septum(layout)
    size = severity / setting.millimetres
    if size > 0.6 * length:
        raise AnomalyError(f"ventricular-septal-defect: the septum is too short for {severity:g} mm; ask for less")
    return _with_hole(layout, crux + apex * max(0.35 * length, size / 2 + 0.04 * length), (apex, left), size)


def open_crux(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Add a hole of that length (mm) at the crux, where the septa and the valves meet."""
    crux, apex, left, length = septum(layout)
    size = severity / setting.millimetres
    if size > 0.9 * length:
        raise AnomalyError(f"atrioventricular-septal-defect: the septum is too short for {severity:g} mm; ask for less")
    return _with_hole(layout, crux, (apex, left), size)


def _with_hole(layout: Layout, centre: Floats, axes: tuple[Floats, Floats], length: float) -> Layout:
    """Add a rectangle around `centre`: `length` along the septum, and across it from one chamber to the other."""
    apex, left = axes
    lv, rv = (centroid(region_of(layout, n), layout.extent) for n in ("left-ventricle", "right-ventricle"))
    scale = layout.extent / grid_size(layout)
    edges = []
    for name, side in (("left", 1.0), ("right", -1.0)):
        chambers = region_of(layout, f"{name}-ventricle") | region_of(layout, f"{name}-atrium")
        points = ((np.argwhere(chambers)[:, ::-1] + 0.5) * scale - centre) @ np.stack([apex, left], axis=1)
        near = points[np.abs(points[:, 0]) <= length / 2 + scale]
        edges.append(float((side * near[:, 1]).min()) if len(near) else 0.0)
    half = [max(e, 0.5 * scale) + _OVERLAP * float(np.hypot(*(lv - rv))) for e in edges]
    corners = ((-0.5, -half[1]), (0.5, -half[1]), (0.5, half[0]), (-0.5, half[0]))
    points_at = [centre + apex * p * length + left * q for p, q in corners]
    shape = Polyline(tuple((float(x), float(y)) for x, y in points_at))
    return layout.replaced(LayoutObject.of("septal-defect", shape, edited=True))


def ventricles_missing(layout: Layout, setting: Setting) -> float:  # noqa: ARG001 - one or none
    """Return how many ventricles' absence is asked."""
    return float(sum(name in layout.absent for name in CHAMBERS[:2]))


def join_ventricles(layout: Layout, severity: float, setting: Setting) -> Layout:  # noqa: ARG001 - one or none
    """Make one ventricle, called the left one, of both and the septum between; the right one is absent."""
    left, right = layout.find("left-ventricle"), layout.find("right-ventricle")
    if left is None or right is None:
        raise AnomalyError("single-ventricle: the layout lacks a ventricle")
    if all(o.is_box for o in (left, right)):
        boxes = (left.box, right.box)
        box = (*(min(b[i] for b in boxes) for i in (0, 1)), *(max(b[i] for b in boxes) for i in (2, 3)))
        return layout.without("right-ventricle").replaced(replace(left, box=box, edited=True))  # type: ignore[arg-type]
    joined = _filled(region_of(layout, "left-ventricle"), region_of(layout, "right-ventricle"))
    for name in ("left-atrium", "right-atrium"):
        if layout.find(name) is not None:
            joined &= ~region_of(layout, name)
    whole = with_mask(left, joined, layout.extent, "single-ventricle")
    return layout.without("right-ventricle").replaced(whole)


def _filled(one: Mask, other: Mask) -> Mask:
    """Return both regions and the gap between them: their convex hull's pixels."""
    from scipy.spatial import Delaunay

    points = np.argwhere(one | other)
    hull = Delaunay(points)
    grid = np.indices(one.shape).reshape(2, -1).T
    return np.asarray((hull.find_simplex(grid) >= 0).reshape(one.shape) | one | other)
