"""What lies before a user: an image, its layout, and the layout that is asked for. Never changed, only replaced.

That is what makes undo, redo and going back in the history exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import Any

import numpy as np

from fetalflex import rng
from fetalflex.anatomy.anomalies import apply_anomalies
from fetalflex.anatomy.editing import Floats, move_mask
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, mask_box
from fetalflex.anatomy.measure import GRID, region
from fetalflex.anatomy.ontology import plane
from fetalflex.anatomy.shapes import Ellipse, Point, Polyline, inscribed
from fetalflex.errors import LayoutError
from fetalflex.synthesis.picture import Picture

MOST_OBJECTS, MOST_POINTS = 40, 4000
_FRAMES = ("head", "abdomen", "thorax")
_WHOLE, _PART = (0.85, 0.7), (0.28, 0.18)  # semi-axes of a new structure, as shares of what it lies in


@dataclass(frozen=True, eq=False)
class Desk:
    """`start`: the layout before the anomalies of the picker, `anomalies`: (name, severity), `asked`: what they give.

    `picture`: the image that is edited, with its own layout `shown`; None where there is none yet. `private`: it
    may show a person, so what is made of it may, too.
    """

    start: Layout
    asked: Layout
    anomalies: tuple[tuple[str, float], ...] = ()
    picture: Picture | None = None
    shown: Layout | None = None
    private: bool = False
    origin: str = ""

    @staticmethod
    def of(layout: Layout, origin: str, picture: Picture | None = None, *, private: bool = False) -> "Desk":
        """Return the desk of a layout, or of an image with its layout."""
        return Desk(layout, layout, (), picture, None if picture is None else layout, private, origin)

    def with_layout(self, layout: Layout) -> "Desk":
        """Return the desk with a layout changed by hand: anomalies of the picker become part of it."""
        return replace(self, start=layout, asked=layout, anomalies=())

    def with_anomalies(self, anomalies: Sequence[tuple[str, float]]) -> "Desk":
        """Return the desk with these anomalies instead of others. Raises: AnomalyError where they cannot be."""
        chosen = tuple(anomalies)
        # As 'fetalflex edit' draws them, so that the same numbers give the same layout.
        asked = apply_anomalies(self.start, chosen, rng.generator(0, "edit")) if chosen else self.start
        return replace(self, asked=asked, anomalies=chosen)

    def stated(self, **changes: Any) -> "Desk":
        """Return the desk with another center's style or age asked, in all of its layouts."""
        if "age_weeks" in changes:
            changes["age_derived"] = False
        shown = None if self.shown is None else replace(self.shown, **changes)
        return replace(self, start=replace(self.start, **changes), asked=replace(self.asked, **changes), shown=shown)

    def adopted(self, picture: Picture, origin: str, *, private: bool) -> "Desk":
        """Return the desk with an image that was made for its layout in the place of the one before.

        Start and anomalies stay, so a slider goes on from where it is.
        """
        return replace(self, picture=picture, shown=self.asked, origin=origin, private=private)


def transform(layout: Layout, index: int, matrix: Sequence[float]) -> Layout:
    """Return the layout with one object moved by p -> A p + b; matrix: (a, b, c, d, e, f) as SVG writes it.

    Raises: LayoutError where there is no such object, or it would leave the frame or vanish.
    """
    item = _object(layout, index)
    a, b, c, d, e, f = (float(v) for v in matrix)
    linear, shift = np.array([[a, c], [b, d]]), np.array([e, f])
    if not np.isfinite([a, b, c, d, e, f]).all() or not 0.01 < abs(np.linalg.det(linear)) < 100:
        raise LayoutError("the movement is none: its numbers are not finite, or it makes the structure vanish")
    return _with_object(layout, index, _moved(item, layout.extent, linear, shift))


def remove(layout: Layout, index: int, *, absent: bool) -> Layout:
    """Return the layout without an object: left to the model, or asked to be absent."""
    item = _object(layout, index)
    kept = tuple(o for i, o in enumerate(layout.objects) if i != index)
    gone = absent and all(o.structure != item.structure for o in kept)
    return replace(layout, objects=kept, absent=layout.absent | ({item.structure} if gone else set()))


def add(layout: Layout, structure: str) -> Layout:
    """Return the layout with a structure in the middle of what it lies in, to be moved from there.

    Raises: LayoutError where the plane does not have it, or the layout is full.
    """
    if structure not in plane(layout.plane).structures:
        known = ", ".join(plane(layout.plane).structures)
        raise LayoutError(f"plane {layout.plane!r} has no {structure!r}; expected one of {known}")
    if len(layout.objects) >= MOST_OBJECTS:
        raise LayoutError(f"the layout has {MOST_OBJECTS} objects already; delete one first")
    frame = next((o for o in layout.objects if o.structure in _FRAMES), None)
    low, high = 0.1 * layout.extent, 0.9 * layout.extent
    whole = inscribed((low, low, high, high) if frame is None else frame.box)
    share = _WHOLE if structure in _FRAMES and frame is None else _PART
    axes = (whole.semi_axes[0] * share[0], whole.semi_axes[1] * share[1])
    new = LayoutObject.of(structure, Ellipse(whole.centre, axes), edited=True)
    return replace(layout, objects=(*layout.objects, new), absent=layout.absent - {structure})


def paint(layout: Layout, index: int, points: Sequence[Point], radius: float, *, erase: bool) -> Layout:
    """Return the layout with a brush stroke added to an object's region, or taken away; lengths in layout units.

    Raises: LayoutError where nothing is left of it, or the stroke is none.
    """
    item = _object(layout, index)
    if not 1 <= len(points) <= MOST_POINTS or not 0 < radius <= layout.extent:
        raise LayoutError(f"a brush stroke has 1 to {MOST_POINTS} points and a radius; found {len(points)}, {radius}")
    size = GRID if item.mask is None else item.mask.shape[0]
    line = tuple((float(x), float(y)) for x, y in points)
    stroke = Polyline(line if len(line) > 1 else line * 2, closed=False, width=2 * radius).draw(layout.extent, size)
    before = region(item, layout.extent, size)
    return _with_object(layout, index, _masked(item, before & ~stroke if erase else before | stroke, layout.extent))


def turn_matrix(
    centre: Point, degrees: float, scale: tuple[float, float] = (1.0, 1.0), axis: float = 0.0
) -> list[float]:
    """Return (a, b, c, d, e, f) that turns about a centre and scales along an axis (degrees) and across it."""
    c, s = cos(radians(axis)), sin(radians(axis))
    axes = np.array([[c, -s], [s, c]])
    t, u = cos(radians(degrees)), sin(radians(degrees))
    linear = np.array([[t, -u], [u, t]]) @ axes @ np.diag(scale) @ axes.T
    shift = np.array(centre) - linear @ np.array(centre)
    return [float(v) for v in (linear[0, 0], linear[1, 0], linear[0, 1], linear[1, 1], shift[0], shift[1])]


def _object(layout: Layout, index: int) -> LayoutObject:
    if not 0 <= index < len(layout.objects):
        raise LayoutError(f"there is no object {index}; the layout has {len(layout.objects)}")
    return layout.objects[index]


def _with_object(layout: Layout, index: int, item: LayoutObject) -> Layout:
    return replace(layout, objects=tuple(item if i == index else o for i, o in enumerate(layout.objects)))


def _moved(item: LayoutObject, extent: float, linear: Floats, shift: Floats) -> LayoutObject:
    """Return an object moved; one known by its box stays a box, moved as the ellipse that fills it."""
    if item.mask is not None:
        return _masked(item, move_mask(item.mask, extent, linear, shift), extent)
    if item.shape is not None:
        return LayoutObject.of(item.structure, item.shape.moved(linear, shift), edited=True)
    return replace(item, box=inscribed(item.box).moved(linear, shift).bounds(), edited=True)


def _masked(item: LayoutObject, mask: Mask, extent: float) -> LayoutObject:
    box = mask_box(mask, extent)
    if box is None:
        raise LayoutError(f"nothing would be left of {item.structure!r} inside the frame; move it less, or delete it")
    return LayoutObject(item.structure, box, mask, edited=True)
