"""Shapes of layout objects that need no pixels: ellipses and polylines, in layout units (x right, y down).

Drawn by sampling pixel centres, so a shape on a finer grid is the same shape. Moved exactly by affine maps.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import cos, hypot, isfinite, radians, sin, sqrt

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Ellipse:
    """An ellipse: centre, semi-axes, and the first axis' angle in degrees from x towards y (clockwise on screen)."""

    centre: Point
    semi_axes: Point
    angle_deg: float = 0.0

    def fault(self) -> str:
        """Return what is wrong with these numbers, or nothing."""
        if not all(isfinite(v) for v in (*self.centre, *self.semi_axes, self.angle_deg)):
            return "its numbers are not all finite"
        return "" if min(self.semi_axes) > 0 else "its semi-axes are not above 0"

    def bounds(self) -> Box:
        """Return the tight box."""
        c, s = cos(radians(self.angle_deg)), sin(radians(self.angle_deg))
        a, b = self.semi_axes
        w, h = hypot(a * c, b * s), hypot(a * s, b * c)
        x, y = self.centre
        return (x - w, y - h, x + w, y + h)

    def draw(self, extent: float, size: int) -> Mask:
        """Return bool [size, size]: pixels whose centre lies inside."""
        x, y = _grid(extent, size)
        c, s = cos(radians(self.angle_deg)), sin(radians(self.angle_deg))
        dx, dy = x - self.centre[0], y - self.centre[1]
        return np.asarray(
            ((dx * c + dy * s) / self.semi_axes[0]) ** 2 + ((dy * c - dx * s) / self.semi_axes[1]) ** 2 <= 1
        )

    def moved(self, matrix: Floats, offset: Floats) -> "Ellipse":
        """Return the image under p -> matrix @ p + offset: an ellipse again (singular value decomposition)."""
        c, s = cos(radians(self.angle_deg)), sin(radians(self.angle_deg))
        axes = matrix @ np.array([[c, -s], [s, c]]) @ np.diag(self.semi_axes)
        turn, lengths, _ = np.linalg.svd(axes)
        x, y = matrix @ np.array(self.centre) + offset
        angle = float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
        return Ellipse((float(x), float(y)), (float(lengths[0]), float(lengths[1])), angle)


@dataclass(frozen=True)
class Polyline:
    """A line through points. Closed: the region it encloses (even-odd rule). Open: a stroke of `width`."""

    points: tuple[Point, ...]
    closed: bool = True
    width: float = 0.0

    def fault(self) -> str:
        """Return what is wrong with these numbers, or nothing."""
        if not all(isfinite(v) for p in self.points for v in p) or not isfinite(self.width):
            return "its numbers are not all finite"
        if len(self.points) < (3 if self.closed else 2):
            return f"it has {len(self.points)} points, less than {'3 (closed)' if self.closed else '2 (open)'}"
        if self.closed and self.width != 0:
            return "it is closed, and has a width"
        return "it is open, and has no width above 0" if not self.closed and self.width <= 0 else ""

    def bounds(self) -> Box:
        """Return the tight box of the points, with half the width around them."""
        half = self.width / 2
        xs, ys = [p[0] for p in self.points], [p[1] for p in self.points]
        return (min(xs) - half, min(ys) - half, max(xs) + half, max(ys) + half)

    def draw(self, extent: float, size: int) -> Mask:
        """Return bool [size, size]: pixels whose centre lies inside the line, or within half its width of it."""
        x, y = _grid(extent, size)
        result = np.zeros((size, size), bool)
        if not self.closed:
            for one, other in pairwise(self.points):
                result |= _distance(x, y, one, other) <= self.width / 2
            return result
        for (x0, y0), (x1, y1) in zip(self.points, (*self.points[1:], self.points[0]), strict=True):
            if y0 == y1:
                continue
            crosses = (y >= min(y0, y1)) & (y < max(y0, y1))
            result ^= crosses & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        return result

    def moved(self, matrix: Floats, offset: Floats) -> "Polyline":
        """Return the image under p -> matrix @ p + offset; a width follows the square root of the area."""
        points = np.array(self.points) @ matrix.T + offset
        scale = sqrt(abs(float(np.linalg.det(matrix))))
        return Polyline(tuple((float(x), float(y)) for x, y in points), self.closed, self.width * scale)


Shape = Ellipse | Polyline


def inscribed(box: Box) -> Ellipse:
    """Return the ellipse that fills a box: what a structure known only by its box is taken for."""
    x0, y0, x1, y1 = box
    return Ellipse(((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2))


def _grid(extent: float, size: int) -> tuple[Floats, Floats]:
    """Return the pixel centres' x [1, size] and y [size, 1]."""
    centres = (np.arange(size) + 0.5) * extent / size
    return centres[None, :], centres[:, None]


def _distance(x: Floats, y: Floats, one: Point, other: Point) -> Floats:
    """Return the distance of points to a segment."""
    dx, dy = other[0] - one[0], other[1] - one[1]
    length = dx * dx + dy * dy
    along = (x - one[0]) * dx + (y - one[1]) * dy
    t = np.clip(along / length, 0, 1) if length else np.zeros_like(along)
    return np.asarray(np.hypot(x - one[0] - t * dx, y - one[1] - t * dy))
