"""Layouts: what the generator is asked for. A plane, objects with boxes and optional shapes, optional modalities.

The canvas is a square of `extent` units (mm where the spacing is known, else `image` units with the side
1.0); x runs right, y runs down, the origin is the top left corner.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from fetalflex.anatomy.ontology import STRUCTURE_NAMES, STRUCTURES, Structure, plane, structure, structure_index
from fetalflex.anatomy.shapes import Box as Box
from fetalflex.anatomy.shapes import Mask as Mask
from fetalflex.anatomy.shapes import Shape
from fetalflex.errors import LayoutError

Unit = Literal["mm", "image"]


@dataclass(frozen=True, eq=False)
class LayoutObject:
    """One structure: its box (x0, y0, x1, y1) in the layout's unit and, where known, its mask or its shape.

    `mask` is bool [S, S] over the whole canvas; `shape` an ellipse or polyline in the layout's unit (where an object
    has both, the mask counts). `edited` marks an abnormal object: adaptation must not touch it.
    """

    structure: str
    box: Box
    mask: Mask | None = None
    edited: bool = False
    shape: Shape | None = None

    @staticmethod
    def of(structure: str, shape: Shape, *, edited: bool = False) -> "LayoutObject":
        """Return the object of a shape, with its box."""
        return LayoutObject(structure, shape.bounds(), None, edited, shape)

    @property
    def is_box(self) -> bool:
        """Whether the object is asked for by its box alone; a mask, an ellipse and a polyline are explicit."""
        return self.mask is None and self.shape is None

    def draw(self, extent: float, size: int) -> Mask:
        """Return bool [size, size]: the mask, else the shape, else the box. What is too small is drawn as its box."""
        drawn = None
        if self.mask is not None:
            drawn = resize_mask(self.mask, size)
        elif self.shape is not None:
            drawn = self.shape.draw(extent, size)
        return box_mask(self.box, extent, size) if drawn is None or not drawn.any() else drawn


@dataclass(frozen=True, eq=False)
class Layout:
    """Everything that is asked of one image. `center` and `age_weeks` are None where nothing is asked.

    `age_derived`: the age was computed from a size, not stated. `absent`: structures whose absence is asked; what is
    neither an object nor absent is left to the generator.
    Raises: LayoutError for an unknown plane or unit, a structure that the plane does not have, a box or shape that
    is empty or leaves the frame, a mask that is no square of truth values, a number that is not finite, a structure
    that is asked and absent.
    """

    plane: str
    unit: Unit
    extent: float
    objects: tuple[LayoutObject, ...]
    center: str | None = None
    age_weeks: float | None = None
    age_derived: bool = False
    absent: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.unit not in ("mm", "image") or not 0 < self.extent < math.inf:
            raise LayoutError(
                f"layout: expected unit mm or image and a positive extent; found {self.unit}, {self.extent}"
            )
        if self.age_weeks is not None and not 0 < self.age_weeks < math.inf:
            raise LayoutError(f"layout: expected a positive age in weeks, or none; found {self.age_weeks}")
        allowed = plane(self.plane).structures
        for item in self.objects:
            if item.structure not in allowed:
                raise LayoutError(
                    f"layout: {item.structure!r} is no structure of plane {self.plane!r}; expected {', '.join(allowed)}"
                )
            self._check_object(item)
        self._check_absent(allowed)

    def _check_absent(self, allowed: tuple[str, ...]) -> None:
        if self.age_derived and self.age_weeks is None:
            raise LayoutError("layout: the age is marked as derived, but there is none; expected an age in weeks")
        for name in sorted(self.absent):
            if name not in allowed:
                raise LayoutError(
                    f"layout: absent: {name!r} is no structure of plane {self.plane!r}; expected {', '.join(allowed)}"
                )
            if self.find(name) is not None:
                raise LayoutError(f"layout: {name!r} is asked as an object and as absent; expected one of them")

    def _check_object(self, item: LayoutObject) -> None:
        x0, y0, x1, y1 = item.box
        margin = 1e-6 * self.extent
        if not (-margin <= x0 < x1 <= self.extent + margin and -margin <= y0 < y1 <= self.extent + margin):
            raise LayoutError(
                f"layout: the box of {item.structure!r} {tuple(round(float(v), 3) for v in item.box)} leaves the frame "
                f"of {self.extent:g} {self.unit}, or is empty"
            )
        mask = item.mask
        if mask is not None and (mask.dtype != np.bool_ or mask.ndim != 2 or mask.shape[0] != mask.shape[1]):
            raise LayoutError(
                f"layout: the mask of {item.structure!r} is {mask.dtype} {mask.shape}; expected bool [S, S]"
            )
        if item.shape is not None:
            fault = item.shape.fault()
            if not fault and max(abs(v - w) for v, w in zip(item.box, item.shape.bounds(), strict=True)) > margin:
                fault = f"its bounds {tuple(round(v, 3) for v in item.shape.bounds())} are not the object's box"
            if fault:
                raise LayoutError(f"layout: the {type(item.shape).__name__.lower()} of {item.structure!r}: {fault}")

    def find(self, structure: str) -> LayoutObject | None:
        """Return the first object of that structure, or None."""
        return next((o for o in self.objects if o.structure == structure), None)

    def all(self, structure: str) -> tuple[LayoutObject, ...]:
        """Return all objects of that structure: there may be several, say two kidneys."""
        return tuple(o for o in self.objects if o.structure == structure)

    def replaced(self, *objects: LayoutObject) -> "Layout":
        """Return a layout in which the objects of these structures are replaced (or added, where missing)."""
        names = {o.structure for o in objects}
        kept = tuple(o for o in self.objects if o.structure not in names)
        return replace(self, objects=kept + objects, absent=self.absent - names)

    def without(self, *structures: str) -> "Layout":
        """Return a layout that asks for the absence of these structures."""
        kept = tuple(o for o in self.objects if o.structure not in structures)
        return replace(self, objects=kept, absent=self.absent | set(structures))

    def boxes_only(self) -> "Layout":
        """Return the same layout without any mask or shape."""
        return replace(self, objects=tuple(replace(o, mask=None, shape=None) for o in self.objects))

    def drawn(self, size: int) -> "Layout":
        """Return the same layout with every ellipse and polyline drawn as a mask bool [size, size]."""
        objects = []
        for item in self.objects:
            mask = item.draw(self.extent, size) if item.mask is None and item.shape is not None else item.mask
            box = item.box if mask is item.mask or mask is None else mask_box(mask, self.extent) or item.box
            objects.append(replace(item, mask=mask, shape=None, box=box))
        return replace(self, objects=tuple(objects))

    def to_json(self) -> str:
        """Return the layout as JSON that gives the same layout back, number for number; masks as base64 PNG."""
        from fetalflex.anatomy.layout_json import layout_to_json

        return layout_to_json(self)

    @staticmethod
    def from_json(text: str) -> "Layout":
        """Read a layout. Raises: LayoutError where the JSON is none of ours."""
        from fetalflex.anatomy.layout_json import layout_from_json

        return layout_from_json(text)


@dataclass(frozen=True, eq=False)
class LayoutMaps:
    """A layout on the pixel grid, for networks and metrics.

    maps: float32 [K, S, S], 1 inside the mask or shape (or the box, where there is neither), K = number of structures.
    kinds: int64 [K], 0 not asked, 1 asked as box, 2 asked as mask, ellipse or polyline.
    boxes: float32 [K, 4], x0 y0 x1 y1 as fractions of the side; zeros where not asked.
    absent: bool [K], true where the absence is asked; its kind is 0, because a place is not asked for.
    """

    maps: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    absent: npt.NDArray[np.bool_]


def rasterize(layout: Layout, size: int) -> LayoutMaps:
    """Draw a layout on `size` x `size` pixels. Several objects of one structure are united.

    A shape that is too small to be seen on this grid is drawn as its box, so nothing that is asked vanishes.
    """
    k = len(STRUCTURE_NAMES)
    maps = np.zeros((k, size, size), np.float32)
    kinds = np.zeros(k, np.int64)
    boxes = np.zeros((k, 4), np.float32)
    for item in layout.objects:
        index = structure_index(item.structure)
        filled = item.draw(layout.extent, size)
        fractions = np.asarray(item.box, np.float32) / layout.extent
        if kinds[index]:
            fractions = np.concatenate(
                [np.minimum(boxes[index], fractions)[:2], np.maximum(boxes[index], fractions)[2:]]
            )
        maps[index] = np.maximum(maps[index], filled)
        kinds[index] = max(int(kinds[index]), 1 if item.is_box else 2)
        boxes[index] = fractions
    absent = np.array([name in layout.absent for name in STRUCTURE_NAMES])
    return LayoutMaps(maps, kinds, boxes, absent)


def changed_region(before: Layout, after: Layout, size: int) -> Mask:
    """Return bool [size, size], true where two drawn layouts differ; of what is taken away, its place.

    Where an outline with a wall moves, its walls before and after are part of it: or the old skull stays as a ghost.
    """
    first, second = (rasterize(layout, size).maps > 0.5 for layout in (before, after))
    region = (first != second).any(axis=0)
    for kind, *shapes in zip(STRUCTURES, first, second, strict=True):
        if any(kind.wall) and (shapes[0] != shapes[1]).any():
            for shape in shapes:
                region |= _wall(shape, kind)
    return np.asarray(region)


def _wall(shape: Mask, structure: Structure) -> Mask:
    """Return the pixels [S, S] that the bright wall along a drawn outline covers; none where nothing is drawn."""
    diameter, distance = 2 * math.sqrt(shape.sum() / math.pi), signed_distance(shape)
    outward, inward = structure.wall
    return np.asarray((distance >= -outward * diameter) & (distance <= inward * diameter))


def to_avoid(normal: Layout, asked: Layout) -> Layout | None:
    """Return the normal layout where `asked` takes a structure away, else None.

    To leave a structure unasked is not to ask for its absence.
    """
    return normal if asked.absent - normal.absent else None


def fluid_spaces(layout: Layout, size: int) -> dict[str, Mask]:
    """Return where edited objects that hold fluid lie, bool [size, size] by structure."""
    spaces: dict[str, Mask] = {}
    for item in layout.objects:
        if item.edited and structure(item.structure).is_fluid:
            drawn = item.draw(layout.extent, size)
            spaces[item.structure] = drawn | spaces.get(item.structure, np.zeros_like(drawn))
    return spaces


def box_mask(box: Box, extent: float, size: int) -> Mask:
    """Return bool [size, size]: pixels whose centre lies in the box; never empty for a box inside the canvas."""
    centres = (np.arange(size) + 0.5) * extent / size
    rows = (centres >= box[1]) & (centres < box[3])
    columns = (centres >= box[0]) & (centres < box[2])
    for line, low, high in ((rows, box[1], box[3]), (columns, box[0], box[2])):
        if not line.any():
            line[min(size - 1, max(0, int((low + high) / 2 * size / extent)))] = True
    return rows[:, None] & columns[None, :]


def mask_box(mask: Mask, extent: float) -> Box | None:
    """Return the tight box of a canvas mask in layout units, or None where the mask is empty."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return None
    scale = extent / mask.shape[0]
    x0, y0, x1, y1 = (int(v) * scale for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    return (x0, y0, x1, y1)


def resize_mask(mask: Mask, size: int) -> Mask:
    """Resize a square mask: area-averaged and cut at one half when shrinking, nearest when growing."""
    if mask.shape[0] == size:
        return mask
    method = Image.Resampling.BOX if size < mask.shape[0] else Image.Resampling.NEAREST
    grown = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), method)
    return np.asarray(grown) > 127


def signed_distance(mask: Mask) -> npt.NDArray[np.float64]:
    """Return the distance to the border in pixels, positive inside; 0 on the border itself."""
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, float(mask.shape[0]))
    return np.asarray(np.where(mask, inside - 0.5, 0.5 - outside))
