"""Edits of the abdomen: stomach, second bubble, renal pelvis, omphalocele."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from fetalflex.anatomy.editing import Floats, Setting, along_axes, moved, solve
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask
from fetalflex.anatomy.measure import centroid, depth, diameter_of, grid_size, region, region_of
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.errors import AnomalyError

_WALL = 0.91  # of the abdomen's radius: what lies deeper is inside of its wall
_CORTEX_MM = 2.0  # of parenchyma that stays around a wide pelvis


def stomach_absent(layout: Layout, setting: Setting) -> float:  # noqa: ARG001 - there or not
    """Return 1 where the stomach's absence is asked, else 0."""
    return float("stomach" in layout.absent)


def remove_stomach(layout: Layout, severity: float, setting: Setting) -> Layout:  # noqa: ARG001 - there or not
    """Ask for the absence of the stomach's bubble."""
    return layout.without("stomach")


def bubble_diameter(layout: Layout, setting: Setting) -> float:
    """Return the diameter in mm of the duodenal bubble; 0 where there is none."""
    return diameter_of(layout, "duodenum") * setting.millimetres


def add_bubble(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Add a round duodenum of that diameter (mm) beside the stomach, towards the abdomen's middle."""
    extent, size, radius = layout.extent, grid_size(layout), severity / setting.millimetres / 2
    abdomen, stomach = region_of(layout, "abdomen"), region_of(layout, "stomach")
    inner = _inner(abdomen)
    taken = stomach.copy()
    for name in ("umbilical-vein", "spine"):
        if layout.find(name) is not None:
            taken |= region_of(layout, name)
    start, goal = centroid(stomach, extent), centroid(abdomen, extent)
    toward = np.arctan2(*(goal - start)[::-1])
    for turn in np.deg2rad((0, 15, -15, 30, -30, 50, -50, 70, -70, 90, -90)):
        way = np.array([np.cos(toward + turn), np.sin(toward + turn)])
        for distance in np.arange(radius, radius + 0.5 * extent, extent / size):
            x, y = start + way * distance
            shape = Ellipse((float(x), float(y)), (radius, radius))
            drawn = shape.draw(extent, size)
            if (drawn & stomach).any():
                continue
            if drawn.any() and not (drawn & ~inner).any() and not (ndimage.binary_dilation(drawn) & taken).any():
                return layout.replaced(LayoutObject.of("duodenum", shape, edited=True))
            if (drawn & ~inner).any():
                break
    raise AnomalyError(f"double-bubble: the abdomen has no room for a bubble of {severity:g} mm; ask for less")


def _inner(abdomen: Mask) -> Mask:
    """Return the abdomen without its wall."""
    field = ndimage.distance_transform_edt(np.pad(abdomen, 1))[1:-1, 1:-1]
    return np.asarray(field > (1 - _WALL) * field.max())


def pelvis_depth(layout: Layout, setting: Setting) -> float:
    """Return the anteroposterior diameter in mm of the wider renal pelvis."""
    axis = _forward(layout)
    parts, count = ndimage.label(region_of(layout, "renal-pelvis"), np.ones((3, 3)))
    return max((depth(parts == k, layout.extent, axis) for k in range(1, count + 1)), default=0.0) * setting.millimetres


def _forward(layout: Layout) -> Floats:
    """Return the unit vector from the spine to the abdomen's middle: the anterior direction."""
    way = centroid(region_of(layout, "abdomen"), layout.extent) - centroid(region_of(layout, "spine"), layout.extent)
    return np.asarray(way / np.hypot(*way))


def widen_pelvis(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Widen the wider renal pelvis to that anteroposterior diameter (mm), and its kidney where it must hold it."""
    parts = _parts(layout)
    extent, size, axis = layout.extent, grid_size(layout), _forward(layout)
    depths = [depth(region(o, extent, size), extent, axis) for o in parts["renal-pelvis"]]
    chosen, before = parts["renal-pelvis"][int(np.argmax(depths))], max(depths)
    wanted = severity / setting.millimetres
    if before >= wanted:
        raise AnomalyError(
            f"hydronephrosis: the renal pelvis is {before * setting.millimetres:.1f} mm deep already; expected less "
            f"than {severity:g} mm"
        )
    axes = np.stack([axis, np.array([-axis[1], axis[0]])], axis=1)
    centre = centroid(region(chosen, extent, size), extent)
    kidneys = parts["kidney"]
    kidney = min(kidneys, key=lambda o: float(np.hypot(*(centroid(region(o, extent, size), extent) - centre))))
    middle = centroid(region(kidney, extent, size), extent)

    def wide(factor: float) -> LayoutObject:
        across = max(1.0, factor**0.8)
        return moved(chosen, extent, along_axes(axes, factor, across), centre, 0.6 * (middle - centre))

    def measured(factor: float) -> float:
        return depth(region(wide(factor), extent, size), extent, axis)

    guess = wanted / before
    pelvis = wide(solve(measured, wanted, (0.7 * guess, 1.5 * guess), 14))
    grown = _grown(layout, kidney, region(pelvis, extent, size), setting)
    others = [o for name in ("kidney", "renal-pelvis") for o in parts[name] if o is not chosen and o is not kidney]
    return layout.replaced(*others, grown, pelvis)


def _parts(layout: Layout) -> dict[str, list[LayoutObject]]:
    """Return kidneys and pelves one by one: a mask that holds both sides is parted."""
    found: dict[str, list[LayoutObject]] = {}
    for name in ("kidney", "renal-pelvis"):
        found[name] = []
        for item in layout.all(name):
            if item.mask is None:
                found[name].append(item)
                continue
            labels, count = ndimage.label(item.mask, np.ones((3, 3)))
            for k in range(1, count + 1):
                ys, xs = np.nonzero(labels == k)
                scale = layout.extent / item.mask.shape[0]
                box = (xs.min() * scale, ys.min() * scale, (xs.max() + 1) * scale, (ys.max() + 1) * scale)
                found[name].append(replace(item, mask=labels == k, box=tuple(float(v) for v in box), shape=None))  # type: ignore[arg-type]
    return found


def _grown(layout: Layout, kidney: LayoutObject, pelvis: Mask, setting: Setting) -> LayoutObject:
    """Return the kidney, scaled about its middle until some parenchyma is left all around the pelvis."""
    extent, size = layout.extent, grid_size(layout)
    middle = centroid(region(kidney, extent, size), extent)
    margin = max(1, round(_CORTEX_MM / setting.millimetres * size / extent))
    near = ndimage.distance_transform_edt(~pelvis) <= margin
    inner, spine = _inner(region_of(layout, "abdomen")), region_of(layout, "spine")
    for factor in np.arange(1.0, 3.0, 0.05):
        grown = kidney if factor == 1 else moved(kidney, extent, factor * np.eye(2), middle, np.zeros(2))
        drawn = region(grown, extent, size)
        if (drawn & ~inner & ~region(kidney, extent, size)).any() or (drawn & spine).any():
            break
        if not (near & ~drawn).any():
            return grown
    raise AnomalyError("hydronephrosis: the abdomen has no room for so large a kidney; ask for less")


def sac_diameter(layout: Layout, setting: Setting) -> float:
    """Return the longest diameter in mm of an omphalocele's sac; 0 where there is none."""
    return diameter_of(layout, "omphalocele") * setting.millimetres


def add_sac(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Add a sac of that longest diameter (mm) before the anterior wall, opposite to the spine."""
    extent, way, radius = layout.extent, _forward(layout), severity / setting.millimetres / 2
    abdomen = region_of(layout, "abdomen")
    points = (np.argwhere(abdomen)[:, ::-1] + 0.5) * extent / abdomen.shape[0]
    middle = centroid(abdomen, extent)
    front = middle + way * float(((points - middle) @ way).max())
    centre = front + way * 0.84 * radius
    angle = float(np.degrees(np.arctan2(way[0], -way[1])))  # the long axis lies along the wall
    shape = Ellipse((float(centre[0]), float(centre[1])), (radius, 0.84 * radius), angle)
    x0, y0, x1, y1 = shape.bounds()
    if min(x0, y0) < 0 or max(x1, y1) > extent:
        raise AnomalyError(f"omphalocele: the frame has no room for a sac of {severity:g} mm; ask for less")
    return layout.replaced(LayoutObject.of("omphalocele", shape, edited=True))


def urinary_tract_grade(depth_mm: float, weeks: float) -> str:
    """Return normal, A1 (low risk) or A2-3 (increased risk) by the anteroposterior renal pelvic diameter alone.

    Source: Nguyen et al., Multidisciplinary consensus on the classification of prenatal and postnatal urinary tract
    dilation (UTD classification system), J Pediatr Urol 2014;10:982-98: 4 and 7 mm to 27, 7 and 10 mm from 28 weeks.
    """
    low, high = (4.0, 7.0) if weeks < 28 else (7.0, 10.0)
    return "normal" if depth_mm < low else "A1" if depth_mm < high else "A2-3"
