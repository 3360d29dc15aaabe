"""What all plans share: points with tissues and masks, sizes drawn for an age, parts of more than one plane."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from fetalflex.anatomy import biometry
from fetalflex.anatomy.biometry import Measure
from fetalflex.phantom.tissues import INDEX

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator
Change = tuple[str, float] | None  # an anomaly and its severity; None: normal


class Canvas:
    """Points (u, v) in mm with their tissue (-1: not the fetus) and the masks of the structures painted so far."""

    def __init__(self, u: Floats, v: Floats) -> None:
        self.u, self.v = u, v
        self.tissue = np.full(u.shape, -1, np.int8)
        self.masks: dict[str, Mask] = {}

    def paint(self, where: Mask, tissue: str) -> None:
        """Give the points of a mask a tissue."""
        self.tissue[where] = INDEX[tissue]

    def within(self, u: float, v: float, a: float, b: float, angle: float = 0.0) -> Floats:
        """Return the normalised radius (inside: below 1) of an ellipse at (u, v), semi-axes a, b, turned by `angle`."""
        c, s = np.cos(angle), np.sin(angle)
        p, q = (self.u - u) * c + (self.v - v) * s, -(self.u - u) * s + (self.v - v) * c
        return np.sqrt((p / a) ** 2 + (q / b) ** 2)

    def inside(self, points: list[tuple[float, float]]) -> Mask:
        """Return where the smooth closed curve through points (u, v) encloses (even-odd rule)."""
        closed = np.array([*points, points[0]])
        steps = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
        line = CubicSpline(steps, closed, bc_type="periodic")(np.linspace(0, steps[-1], 8 * len(points) + 1))
        result = np.zeros(self.u.shape, bool)
        for (u0, v0), (u1, v1) in pairwise(line):
            if v0 != v1:
                crosses = (self.v >= min(v0, v1)) & (self.v < max(v0, v1))
                result ^= crosses & (self.u < u0 + (self.v - v0) / (v1 - v0) * (u1 - u0))
        return result

    def stroke(self, points: list[tuple[float, float]], width: float) -> Mask:
        """Return the points within half a width of a line through points (u, v)."""
        result = np.zeros(self.u.shape, bool)
        for (u0, v0), (u1, v1) in pairwise(points):
            du, dv = u1 - u0, v1 - v0
            t = np.clip(((self.u - u0) * du + (self.v - v0) * dv) / (du * du + dv * dv), 0, 1)
            result |= np.hypot(self.u - u0 - t * du, self.v - v0 - t * dv) < width / 2
        return result


@dataclass(frozen=True)
class Plan:
    """What to paint. `half`: half sizes (u, v) in mm of the part with its skin; `sizes_mm`: its true measures."""

    paint: Callable[[Canvas], None]
    half: tuple[float, float]
    sizes_mm: dict[str, float]


def semi_axes(circumference: float, ratio: float) -> tuple[float, float]:
    """Return the semi-axes of the ellipse with that circumference and short/long ratio (Ramanujan, 1914)."""
    h = 3 * (1 + ratio) - sqrt((3 + ratio) * (1 + 3 * ratio))
    a = circumference / (pi * h)
    return a, a * ratio


def draw_size(measure: Measure, weeks: float, rng: Rng) -> float:
    """Return a size within two standard deviations of the mean for the age."""
    z = float(np.clip(rng.normal(0, 0.8), -2, 2))
    return biometry.mean_mm(measure, weeks) + z * biometry.sd_mm(measure, weeks)


def severity_of(change: Change, name: str) -> float | None:
    """Return the severity where the change is that anomaly, else None."""
    return change[1] if change is not None and change[0] == name else None


def paint_cavum(c: Canvas, front: float, box: float) -> None:
    """A dark box on the midline between two lines, a third of the way from the front; about twice as long as wide."""
    # A superellipse: a box with rounded corners.
    radius = (np.abs((c.u - front) / box) ** 4 + np.abs(c.v / (box / 2)) ** 4) ** 0.25
    lines = (np.abs(c.u - front) < box) & (np.abs(c.v) >= box / 2) & (np.abs(c.v) < box / 2 + 0.8)
    c.paint(lines, "falx")
    c.masks["csp"] = radius < 1
    c.paint(c.masks["csp"], "csf")


def paint_ribs(c: Canvas, a: float, b: float, radius: float, span: tuple[float, float]) -> None:
    """Short bright arcs on both sides of the wall; `span`: polar angles from anterior, in radians."""
    angle = np.abs(np.arctan2(c.v / b, c.u / a))
    c.paint((np.abs(c.within(0, 0, a, b) - radius) < 0.9 / b) & (angle > span[0]) & (angle < span[1]), "rib")


def paint_spine(c: Canvas, u: float, radius: float) -> None:
    """Three ossification centres around the canal: body in front, two arches behind."""
    c.masks["spine"] = c.within(u, 0, radius, radius) < 1
    c.paint(c.masks["spine"], "soft")
    c.paint(c.within(u, 0, 0.3 * radius, 0.3 * radius) < 1, "fluid")
    for du, dv in ((0.6, 0.0), (-0.38, 0.58), (-0.38, -0.58)):
        c.paint(c.within(u + du * radius, dv * radius, 0.3 * radius, 0.3 * radius) < 1, "bone")
