"""What readers of foreign annotations share: an image's pixels on the square canvas, names, objects.

A picture that is not square lies centred on the canvas, its longer side filling it, as frames do (docs/layouts.md).
Pixel coordinates are continuous: the first pixel reaches from 0 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, mask_box
from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.anatomy.shapes import Box, Point, Polyline
from fetalflex.errors import AnnotationError

MAX_SIDE, MAX_BYTES = 8192, 2**28
_SLACK = 1.0  # pixels: tools write outlines that end just outside of the picture


@dataclass(frozen=True)
class Reading:
    """How to read: the plane (files do not name it), the pixels' side in mm, and what labels mean.

    `names` maps a file's label to a structure, or to "" where it is to be left out; labels that are names of
    structures need no entry. Without `spacing_mm` layouts are in image units.
    """

    plane: str
    spacing_mm: float | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    center: str | None = None
    age_weeks: float | None = None

    def structure(self, label: str, where: str) -> str:
        """Return the structure of a label, "" where it is left out. Raises: AnnotationError for an unknown label."""
        name = self.names.get(label, label.strip().lower().replace(" ", "-").replace("_", "-"))
        if name and name not in STRUCTURE_NAMES:
            raise AnnotationError(
                f"{where}: label {label!r} is no structure; give its meaning, one of {', '.join(STRUCTURE_NAMES)}"
            )
        return name


@dataclass(frozen=True)
class Picture:
    """A picture's pixels (rows, columns) and how they lie on the canvas. Raises: AnnotationError for no size."""

    rows: int
    columns: int
    spacing_mm: float | None

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= MAX_SIDE and 1 <= self.columns <= MAX_SIDE):
            raise AnnotationError(
                f"annotation of a picture of {self.columns} x {self.rows} pixels; expected 1 to {MAX_SIDE} a side"
            )
        if self.spacing_mm is not None and not 0 < self.spacing_mm < float("inf"):
            raise AnnotationError(f"spacing of {self.spacing_mm} mm; expected a number above 0, or none")

    @property
    def side(self) -> int:
        """The canvas side in pixels."""
        return max(self.rows, self.columns)

    @property
    def extent(self) -> float:
        """The canvas side in layout units."""
        return 1.0 if self.spacing_mm is None else self.side * self.spacing_mm

    @property
    def offset(self) -> tuple[int, int]:
        """Columns and rows of the canvas left of and above the picture."""
        return (self.side - self.columns) // 2, (self.side - self.rows) // 2

    def point(self, x: float, y: float) -> Point:
        """Return a point in layout units; up to one pixel outside of the picture is taken for its edge."""
        left, top = self.offset
        x = min(max(x, 0.0), self.columns) if -_SLACK <= x <= self.columns + _SLACK else x
        y = min(max(y, 0.0), self.rows) if -_SLACK <= y <= self.rows + _SLACK else y
        return ((x + left) * self.extent / self.side, (y + top) * self.extent / self.side)

    def box(self, structure: str, box: Box) -> LayoutObject:
        """Return an object known by its box in pixels."""
        return LayoutObject(structure, (*self.point(box[0], box[1]), *self.point(box[2], box[3])))

    def outline(self, structure: str, points: list[Point]) -> LayoutObject:
        """Return an object known by its closed outline in pixels."""
        return LayoutObject.of(structure, Polyline(tuple(self.point(x, y) for x, y in points)))

    def mask(self, structure: str, mask: Mask) -> LayoutObject:
        """Return an object known by its mask bool [rows, columns]. Raises: AnnotationError for an empty one."""
        if mask.shape != (self.rows, self.columns):
            raise AnnotationError(
                f"mask of {structure!r} is {mask.shape}; expected its picture's {(self.rows, self.columns)}"
            )
        left, top = self.offset
        canvas = np.zeros((self.side, self.side), bool)
        canvas[top : top + self.rows, left : left + self.columns] = mask
        box = mask_box(canvas, self.extent)
        if box is None:
            raise AnnotationError(f"mask of {structure!r} is empty; expected a region")
        return LayoutObject(structure, box, canvas)

    def layout(self, objects: list[LayoutObject], reading: Reading) -> Layout:
        """Return the layout of these objects. Raises: LayoutError where they do not fit the plane or the frame."""
        unit = "image" if self.spacing_mm is None else "mm"
        return Layout(
            reading.plane, unit, self.extent, tuple(objects), reading.center, reading.age_weeks,  # type: ignore[arg-type]
        )  # fmt: skip


def read_bytes(path: Path, what: str) -> bytes:
    """Return a file's bytes. Raises: AnnotationError where it is missing or larger than an annotation can be."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AnnotationError(f"{path.name}: larger than {MAX_BYTES >> 20} MiB; expected {what}")
        return path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path.name}: cannot be read ({type(error).__name__}); expected {what}") from error
