"""Clinical measures of masks and of layouts, in layout units (or ratios, degrees): what calipers and ellipses give.

Masks are bool [S, S] over a canvas of side `extent`. Measures of lengths are accurate to about half a pixel.
"""

from math import degrees, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import least_squares

from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, signed_distance
from fetalflex.anatomy.shapes import Ellipse, inscribed
from fetalflex.errors import AnomalyError

Floats = npt.NDArray[np.float64]
FINE = 5  # sub-pixels a side when a width is measured; odd, so that pixel centres stay sampled
GRID = 256  # pixels a side where a layout has no mask that tells its own


def grid_size(layout: Layout) -> int:
    """Return the pixels a side on which a layout is measured: its largest mask's, else `GRID`."""
    return max((o.mask.shape[0] for o in layout.objects if o.mask is not None), default=GRID)


def region(item: LayoutObject, extent: float, size: int) -> Mask:
    """Return an object's region bool [size, size]; one known by its box is taken for the ellipse that fills it."""
    if item.is_box:
        drawn = inscribed(item.box).draw(extent, size)
        return drawn if drawn.any() else item.draw(extent, size)
    return item.draw(extent, size)


def region_of(layout: Layout, structure: str) -> Mask:
    """Return the region of all objects of a structure. Raises: AnomalyError where there is none."""
    found = layout.all(structure)
    if not found:
        raise AnomalyError(f"the layout has no {structure!r}; expected one to measure")
    size = grid_size(layout)
    return np.asarray(np.logical_or.reduce([region(o, layout.extent, size) for o in found]))


def atrial_width(mask: Mask, extent: float) -> float:
    """Return the width of a ventricle: the diameter of the largest circle that fits inside it, in layout units.

    The guideline's caliper stands at the atrium, across the ventricle's axis, inner edge to inner edge; the
    ventricle is widest there, and across its axis that is the largest inscribed circle, whatever its curve.
    Pixels are squares here: a band along them reads right within 1/5 pixel, a slanted or round outline up to 1.3 pixels
    low (ellipses: 0.3 to 0.8 on average, the larger the more), since its steps stand in the circle's way.
    mask: bool [S, S]; an empty mask is 0.
    """
    if not mask.any():
        return 0.0
    ys, xs = np.nonzero(mask)
    part = np.pad(mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1], 1)
    fine = np.kron(part, np.ones((FINE, FINE), bool))
    radius = float(ndimage.distance_transform_edt(fine).max()) - 0.5  # centre to centre -> centre to edge
    return float(2 * radius / FINE * extent / mask.shape[0])


def centroid(mask: Mask, extent: float) -> Floats:
    """Return the centre of mass (x, y). Raises: AnomalyError for an empty mask."""
    if not mask.any():
        raise AnomalyError("a region is empty; expected one to measure")
    return np.asarray((np.argwhere(mask).mean(axis=0)[::-1] + 0.5) * extent / mask.shape[0])


def principal_axes(mask: Mask) -> Floats:
    """Return two unit vectors as columns (x, y): the long axis and the short one, at a right angle to it."""
    points = np.argwhere(mask)[:, ::-1].astype(float)
    spread = np.cov(points.T) if len(points) > 2 else np.eye(2)
    return np.asarray(np.linalg.eigh(spread)[1][:, ::-1])


def ellipse_diameters(mask: Mask, extent: float) -> tuple[float, float]:
    """Return long and short diameter of the ellipse with the mask's second moments: the fitted ellipse."""
    points = np.argwhere(mask).astype(float)
    if len(points) < 3:
        raise AnomalyError("a region has less than 3 pixels; expected one to fit an ellipse to")
    short, long = 4 * np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(points.T)), 0)) * extent / mask.shape[0]
    return float(long), float(short)


def circumference(mask: Mask, extent: float) -> float:
    """Return the fitted ellipse's circumference. Source: Ramanujan 1914, first approximation."""
    a, b = (d / 2 for d in ellipse_diameters(mask, extent))
    return pi * (3 * (a + b) - sqrt((3 * a + b) * (a + 3 * b)))


def cephalic_index(mask: Mask, extent: float) -> float:
    """Return 100 x short / long diameter of the head. Source: Hadlock et al., AJR 1981;137:83-5."""
    long, short = ellipse_diameters(mask, extent)
    return 100 * short / long


def reach(mask: Mask, extent: float, direction: Floats) -> float:
    """Return a region's whole extent along a unit direction (x, y), edge to edge; 0 where it is empty."""
    if not mask.any():
        return 0.0
    along = np.argwhere(mask)[:, ::-1] @ direction
    return float((np.ptp(along) + 1) * extent / mask.shape[0])


def depth(mask: Mask, extent: float, direction: Floats, through: tuple[Floats, float] | None = None) -> float:
    """Return the longest straight way inside a region along a unit direction (x, y): a caliper's, edge to edge.

    `through`: a point (x, y) and how far beside it the caliper may stand; anywhere, where there is none.
    """
    if not mask.any():
        return 0.0
    size = mask.shape[0]
    field = signed_distance(mask)
    across = np.array([-direction[1], direction[0]])
    if through is None:
        middle = np.argwhere(mask).mean(axis=0)[::-1]
        half = float(np.abs((np.argwhere(mask)[:, ::-1] - middle) @ across).max()) + 1
    else:
        middle, half = through[0] * size / extent - 0.5, through[1] * size / extent
    steps = np.arange(-1.5 * size, 1.5 * size, 0.1)
    offsets = np.linspace(-half, half, int(4 * half) + 3)
    lines = middle + offsets[:, None, None] * across + steps[None, :, None] * direction
    values = ndimage.map_coordinates(field, lines[..., ::-1].transpose(2, 0, 1), order=1, cval=-9.0, output=np.float32)
    return float((values > 0).sum(axis=1).max() * 0.1 * extent / size)


def largest_diameter(mask: Mask, extent: float) -> float:
    """Return the longest diameter in any direction, edge to edge (in steps of 3 degrees)."""
    angles = np.deg2rad(np.arange(0, 180, 3))
    return max(reach(mask, extent, np.array([np.cos(t), np.sin(t)])) for t in angles)


def diameter_of(layout: Layout, structure: str) -> float:
    """Return the longest diameter of a structure's largest object: exact for ellipses; 0 where there is none."""
    found = layout.all(structure)
    size = grid_size(layout)
    return max(
        (
            2 * max(o.shape.semi_axes)
            if isinstance(o.shape, Ellipse) and o.mask is None
            else largest_diameter(region(o, layout.extent, size), layout.extent)
            for o in found
        ),
        default=0.0,
    )


def gap(mask: Mask, extent: float) -> float:
    """Return the shortest way between a region's two largest parts, edge to edge; 0 where it is one part."""
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return 0.0
    order = np.argsort(np.bincount(parts.ravel())[1:])[::-1] + 1
    away = ndimage.distance_transform_edt(parts != order[0])
    return float((away[parts == order[1]].min() - 1) * extent / mask.shape[0])


def midline(mask: Mask) -> tuple[Floats, Floats]:
    """Return a long region's middle as (along, across) in pixels, in its own axes about its centre of mass."""
    axes = principal_axes(mask)
    points = (np.argwhere(mask)[:, ::-1] - np.argwhere(mask).mean(axis=0)[::-1]) @ axes
    bins = np.round(points[:, 0]).astype(int)
    places = np.unique(bins)
    across = np.array([points[bins == b, 1].mean() for b in places])
    return places.astype(float), across


def arc(mask: Mask, extent: float) -> tuple[float, float]:
    """Return (length, angle in degrees) of the circular arc through a long region's middle, ends included."""
    along, across = midline(mask) if mask.sum() >= 8 else (np.zeros(0), np.zeros(0))
    if len(along) < 8:
        raise AnomalyError("a region is too short to measure; expected at least 8 pixels")
    pixel = extent / mask.shape[0]
    bend = _curvature(along[2:-2], across[2:-2])  # the ends are cut at a slant where the bone is bent
    points = (np.argwhere(mask)[:, ::-1] - np.argwhere(mask).mean(axis=0)[::-1]) @ principal_axes(mask)
    if abs(bend[0]) * np.ptp(along) < 0.05:  # nearly straight: seen from a centre far away
        length = float(np.ptp(points[:, 0])) + 1
    else:
        radius, x, y = 1 / bend[0], bend[1], bend[2] + 1 / bend[0]
        turn = np.arctan2((points[:, 0] - x) * np.sign(radius), (y - points[:, 1]) * np.sign(radius))
        length = float(np.ptp(turn)) * abs(radius) + 1
    return length * pixel, degrees(abs(bend[0]) * length)


def _curvature(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Return a circle's signed curvature and its apex (x, y) through points (least squares), in their unit."""
    square, slope, level = (float(v) for v in np.polyfit(x, y, 2))
    reach_x = float(np.abs(x).max())

    def missed(values: Floats) -> Floats:
        bend, apex, base = values
        room = np.clip(1 - (bend * (x - apex)) ** 2, 1e-6, None)
        return np.asarray(base + bend * (x - apex) ** 2 / (1 + np.sqrt(room)) - y)

    apex = float(np.clip(-slope / (2 * square), -reach_x, reach_x)) if abs(square) > 1e-9 else 0.0
    found = least_squares(missed, np.array([2 * square, apex, level + slope * apex + square * apex**2])).x
    return float(found[0]), float(found[1]), float(found[2])


def bow_angle(mask: Mask, extent: float) -> float:
    """Return the angle in degrees between the ends of a shaft: of the arc through its middle."""
    return arc(mask, extent)[1]
