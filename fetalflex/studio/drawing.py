"""A layout as the page draws it: outlines as SVG paths in layout units, and the frame that its handles stand on."""

from dataclasses import asdict, dataclass
from math import cos, degrees, radians, sin
from typing import Any, Literal

import numpy as np
from contourpy import contour_generator

from fetalflex.anatomy.layout import Layout, LayoutObject, Mask
from fetalflex.anatomy.measure import principal_axes
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure
from fetalflex.anatomy.shapes import Ellipse, Floats, Point, Polyline, inscribed
from fetalflex.studio.measurements import Measurement

Kind = Literal["box", "ellipse", "polyline", "mask"]
# Okabe and Ito's colours and lighter ones: told apart by most colour-blind people, and seen on grey ultrasound.
COLOURS = ("#e69f00", "#56b4e9", "#2fd6a3", "#f0e442", "#6ea8ff", "#ff8a5c", "#e39ac4", "#d0d0d0", "#b3de69", "#fb9a99")


@dataclass(frozen=True)
class Drawn:
    """One object. `path`: SVG; `centre`, `half` (half lengths along the axis and across it), `angle_deg`: its frame."""

    index: int
    structure: str
    label: str
    kind: Kind
    path: str
    centre: Point
    half: Point
    angle_deg: float
    edited: bool
    colour: str


def draw_layout(layout: Layout) -> list[Drawn]:
    """Return all objects, in the order of the layout."""
    return [_draw(index, item, layout.extent) for index, item in enumerate(layout.objects)]


def label_of(name: str) -> str:
    """Return a structure's name for people."""
    text = name.replace("-", " ")
    return "Cavum septi pellucidi" if name == "csp" else text[0].upper() + text[1:]


def describe(drawn: Drawn, extent: float, unit: str) -> str:
    """Return what a screen reader says of an object."""
    x, y = (f"{100 * v / extent:.0f} %" for v in drawn.centre)
    size = f"{2 * max(drawn.half):.1f} by {2 * min(drawn.half):.1f} mm, " if unit == "mm" else ""
    return f"{drawn.label}: {size}centre {x} from left, {y} from top"


def as_json(value: Drawn | Measurement) -> dict[str, Any]:
    """Return a plain object for the page."""
    found = asdict(value)
    return found | {"status": value.status} if isinstance(value, Measurement) else found


def _draw(index: int, item: LayoutObject, extent: float) -> Drawn:
    colour = COLOURS[STRUCTURE_NAMES.index(item.structure) % len(COLOURS)]
    kind, path, (centre, half, angle) = _shape(item, extent)
    return Drawn(
        index, item.structure, label_of(structure(item.structure).name), kind, path, centre, half, angle, item.edited,
        colour,
    )  # fmt: skip


_Frame = tuple[Point, Point, float]


def _shape(item: LayoutObject, extent: float) -> tuple[Kind, str, _Frame]:
    if item.mask is not None:
        return "mask", _outline(item.mask, extent), _mask_frame(item.mask, extent)
    if isinstance(item.shape, Ellipse):
        shape = item.shape
        return "ellipse", _ellipse(shape), (shape.centre, shape.semi_axes, shape.angle_deg)
    if isinstance(item.shape, Polyline):
        return "polyline", _polyline(item.shape), _box_frame(item)
    x0, y0, x1, y1 = item.box
    return "box", f"M{x0:g} {y0:g}H{x1:g}V{y1:g}H{x0:g}Z", _box_frame(item)


def _box_frame(item: LayoutObject) -> _Frame:
    whole = inscribed(item.box)
    return whole.centre, whole.semi_axes, 0.0


def _mask_frame(mask: Mask, extent: float) -> _Frame:
    """Return the tightest frame along the mask's own long axis."""
    axes = principal_axes(mask)
    if axes[0, 0] < 0:
        axes = -axes
    points = (np.argwhere(mask)[:, ::-1] + 0.5) * extent / mask.shape[0]
    along = points @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    pixel = extent / mask.shape[0] / 2
    centre = axes @ ((low + high) / 2)
    half = (high - low) / 2 + pixel
    angle = degrees(float(np.arctan2(axes[1, 0], axes[0, 0])))
    return (float(centre[0]), float(centre[1])), (float(half[0]), float(half[1])), angle


def _outline(mask: Mask, extent: float) -> str:
    """Return the border of a mask: its half level between pixel centres, so that it lies on the pixels' edges."""
    padded = np.pad(mask.astype(np.float64), 1)
    lines = contour_generator(z=padded).lines(0.5)
    scale = extent / mask.shape[0]
    return "".join(_closed((np.asarray(line, float) - 0.5) * scale) for line in lines)


def _closed(points: Floats) -> str:
    return "M" + "L".join(f"{x:.6g} {y:.6g}" for x, y in points[:-1]) + "Z"


def _ellipse(shape: Ellipse) -> str:
    (x, y), (a, b) = shape.centre, shape.semi_axes
    dx, dy = a * cos(radians(shape.angle_deg)), a * sin(radians(shape.angle_deg))
    arc = f"A{a:.6g} {b:.6g} {shape.angle_deg:.6g} 1 1"
    return f"M{x - dx:.6g} {y - dy:.6g}{arc} {x + dx:.6g} {y + dy:.6g}{arc} {x - dx:.6g} {y - dy:.6g}Z"


def _polyline(shape: Polyline) -> str:
    points = np.array(shape.points)
    if shape.closed:
        return "M" + "L".join(f"{x:.6g} {y:.6g}" for x, y in points) + "Z"
    # An open line has a width: its outline is drawn, so that all paths are regions.
    mask_size = 256
    extent = float(np.abs(points).max() + shape.width) * 1.05
    return _outline(shape.draw(extent, mask_size), extent)
