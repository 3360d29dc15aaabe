"""Layouts: what the generator is asked for. A plane, objects with boxes and optional masks, optional modalities.

The canvas is a square of `extent` units (mm where the spacing is known, else `image` units with the side
1.0); x runs right, y runs down, the origin is the top left corner.
"""

import base64
import json
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane, structure_index
from fetalflex.artifacts import decode_png, encode_png
from fetalflex.errors import ArtifactError, LayoutError

Mask = npt.NDArray[np.bool_]
Box = tuple[float, float, float, float]
Unit = Literal["mm", "image"]


@dataclass(frozen=True, eq=False)
class LayoutObject:
    """One structure: its box (x0, y0, x1, y1) in the layout's unit and, where known, its mask on the canvas.

    `mask` is bool [S, S] over the whole canvas. `edited` marks an abnormal object: adaptation must not touch it.
    """

    structure: str
    box: Box
    mask: Mask | None = None
    edited: bool = False


@dataclass(frozen=True, eq=False)
class Layout:
    """Everything that is asked of one image. `center` and `age_weeks` are None where nothing is asked.

    Raises: LayoutError for an unknown plane or unit, a structure that the plane does not have, a box that is empty
    or leaves the frame, a mask that is no square of truth values, a number that is not finite.
    """

    plane: str
    unit: Unit
    extent: float
    objects: tuple[LayoutObject, ...]
    center: str | None = None
    age_weeks: float | None = None

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

    def find(self, structure: str) -> LayoutObject | None:
        """Return the first object of that structure, or None."""
        return next((o for o in self.objects if o.structure == structure), None)

    def replaced(self, *objects: LayoutObject) -> "Layout":
        """Return a layout in which the objects of these structures are replaced (or added, where missing)."""
        names = {o.structure for o in objects}
        return replace(self, objects=tuple(o for o in self.objects if o.structure not in names) + objects)

    def boxes_only(self) -> "Layout":
        """Return the same layout without any mask."""
        return replace(self, objects=tuple(replace(o, mask=None) for o in self.objects))

    def to_json(self) -> str:
        """Return the layout as JSON that gives the same layout back, number for number; masks as base64 PNG."""
        objects = [
            {"structure": o.structure, "box": [float(v) for v in o.box], "edited": o.edited}
            | ({} if o.mask is None else {"mask": _mask_text(o.mask)})
            for o in self.objects
        ]
        value: dict[str, Any] = {
            "plane": self.plane,
            "unit": self.unit,
            "extent": float(self.extent),
            "objects": objects,
        }
        value |= {"center": self.center, "age_weeks": None if self.age_weeks is None else float(self.age_weeks)}
        return json.dumps(value, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Layout":
        """Read a layout. Raises: LayoutError where the JSON is none of ours."""
        try:
            value = json.loads(text)
            objects = tuple(_read_object(o) for o in value["objects"])
            center, age = value.get("center"), value.get("age_weeks")
            return Layout(
                value["plane"],
                value["unit"],
                float(value["extent"]),
                objects,
                None if center is None else str(center),
                None if age is None else float(age),
            )
        except (AttributeError, KeyError, TypeError, ValueError, ArtifactError) as error:
            raise LayoutError(f"layout JSON cannot be read: {error!r}; see docs/layouts.md for its form") from error


@dataclass(frozen=True, eq=False)
class LayoutMaps:
    """A layout on the pixel grid, for networks and metrics.

    maps: float32 [K, S, S], 1 inside the mask (or the box, where there is no mask), K = number of structures.
    kinds: int64 [K], 0 not asked, 1 asked as box, 2 asked as mask.
    boxes: float32 [K, 4], x0 y0 x1 y1 as fractions of the side; zeros where not asked.
    """

    maps: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]


def rasterize(layout: Layout, size: int) -> LayoutMaps:
    """Draw a layout on `size` x `size` pixels. Several objects of one structure are united.

    A mask that is too small to be seen on this grid is drawn as its box, so nothing that is asked vanishes.
    """
    k = len(STRUCTURE_NAMES)
    maps = np.zeros((k, size, size), np.float32)
    kinds = np.zeros(k, np.int64)
    boxes = np.zeros((k, 4), np.float32)
    for item in layout.objects:
        index = structure_index(item.structure)
        filled = None if item.mask is None else resize_mask(item.mask, size)
        if filled is None or not filled.any():
            filled = box_mask(item.box, layout.extent, size)
        fractions = np.asarray(item.box, np.float32) / layout.extent
        if kinds[index]:
            fractions = np.concatenate(
                [np.minimum(boxes[index], fractions)[:2], np.maximum(boxes[index], fractions)[2:]]
            )
        maps[index] = np.maximum(maps[index], filled)
        kinds[index] = max(int(kinds[index]), 1 if item.mask is None else 2)
        boxes[index] = fractions
    return LayoutMaps(maps, kinds, boxes)


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


def _read_object(value: dict[str, Any]) -> LayoutObject:
    x0, y0, x1, y1 = (float(v) for v in value["box"])
    mask = _read_mask(value["mask"]) if "mask" in value else None
    return LayoutObject(value["structure"], (x0, y0, x1, y1), mask, bool(value.get("edited", False)))


def _mask_text(mask: Mask) -> str:
    return base64.b64encode(encode_png(mask.astype(np.uint8) * 255)).decode()


def _read_mask(text: str) -> Mask:
    return decode_png(base64.b64decode(text, validate=True)) > 127
