"""Sectors: which shapes the field of view has in a center's images, as outlines.

An outline is convex but for its top, where a curved probe leaves an arc between two horns.

A device shows tissue in a sector and nothing outside of it. A generator learns those shapes by and by, and draws them
with soft or bent edges, or of no device at all. They are geometry of a device, known exactly: of each center the
outlines that its training images have, each but once, travel with the generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from fetalflex.dataset import Cases

Images = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Outline = tuple[tuple[float, float], ...]
"""Corners (x, y) in sides of the canvas."""

MOST, ALIKE = 64, 0.97
"""Outlines kept of a center, and the overlap (intersection over union) from which two are one."""
COMPARED = 64
"""Pixels a side of the canvas on which sectors are compared, whatever the images' size."""
LIT = 3  # grey from which an image shows something; lossy compression leaves less in what was black
_ROWS = 3
_LEVEL = 0.35  # height over width up to which an edge of the hull may be the probe's face, not the sector's side
_CURVED = 0.5
"""Depth over half the width of the deepest arc that is a probe's; what is darker further down is a shadow."""
_ARC, _MIDDLE = np.linspace(0, 1, 9), 0.25  # corners of an arc; how far from its middle its depth is read
_SHALLOW, _TOUCHED = 1.0, 25
"""Pixels from which an arc is one; percentage of its columns that may be bright above it."""
_LOOKED_AT = 1024  # images of a center, evenly over all


@dataclass(frozen=True, eq=False)
class Sectors:
    """The outlines of each center's sectors, the most frequent first."""

    outlines: Mapping[str, tuple[Outline, ...]] = field(default_factory=dict)

    @staticmethod
    def of(cases: Cases) -> Sectors:
        """Return the sectors of these cases. An image that shows nothing has none."""
        found = {}
        for center in sorted(set(cases.centers.tolist())):
            shapes = [s for s in map(outline, cases.images[cases.centers == center]) if s]
            if shapes:
                found[str(center)] = _distinct(shapes)
        return Sectors(found)

    @staticmethod
    def read(values: Mapping[str, Iterable[Iterable[Sequence[float]]]]) -> Sectors:
        """Return what `written` gave, out of JSON."""
        return Sectors({c: tuple(tuple((x, y) for x, y in o) for o in shapes) for c, shapes in values.items()})

    def written(self) -> dict[str, list[list[list[float]]]]:
        """Return the outlines as JSON's types."""
        return {c: [[list(corner) for corner in o] for o in shapes] for c, shapes in sorted(self.outlines.items())}

    def known(self, center: str | None) -> tuple[Outline, ...]:
        """Return a center's sectors; none of a center that is not stated or not known."""
        return self.outlines.get(center or "", ())


def outline(image: Images, lit: int = LIT) -> Outline | None:
    """Return the outline of what is brighter than `lit` in an image [S, S]; None where next to nothing is."""
    seen = cv2.medianBlur(np.ascontiguousarray(image), 3) > lit
    rows = np.flatnonzero(seen.any(1))
    if len(rows) < _ROWS:
        return None
    # All else lies between the first and the last of each row.
    ends = (seen.argmax(1)[rows], seen.shape[1] - 1 - seen[:, ::-1].argmax(1)[rows])
    points = np.concatenate([np.stack([end, rows], 1) for end in ends]).astype(np.int32)
    corners = (_curved_in(cv2.convexHull(points)[:, 0].astype(float), seen) + 0.5) / image.shape[0]
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in corners)


def _curved_in(hull: npt.NDArray[np.float64], seen: Masks) -> npt.NDArray[np.float64]:
    """Return corners (x, y) of a hull, in pixels, with the arc of a curved probe in place of its top edge.

    The arc hangs between two horns as deep as the first bright pixels of three quarters of its middle columns allow: a
    shadow reaches further down, and does not bend it where it leaves the other quarter.
    """
    along = np.roll(hull, -1, 0) - hull
    # OpenCV's hulls run from left to right along the top and back along the bottom.
    level = np.abs(along[:, 1]) <= _LEVEL * along[:, 0]
    top = int((along[:, 0] * level).argmax())
    (left, height), (width, rise) = hull[top], along[top]
    columns = np.arange(int(left), int(left + width) + 1)
    slope = rise / max(width, 1)
    below = np.where(seen.any(0), seen.argmax(0), len(seen))[columns] - height - slope * (columns - left)
    dark = columns[below >= _SHALLOW]
    if len(dark) < _ROWS:
        return hull
    start, width = dark[0] - 1, dark[-1] - dark[0] + 2  # from one horn to the other
    place = (columns - start) / width
    middle = np.abs(place - 0.5) < _MIDDLE
    depth = float(np.percentile(below[middle] / (4 * place[middle] * (1 - place[middle])), _TOUCHED))
    if not _SHALLOW <= depth <= _CURVED * width / 2:
        return hull
    across = start + _ARC * width
    arc = np.stack([across, height + slope * (across - left) + depth * 4 * _ARC * (1 - _ARC)], 1)
    return np.insert(hull, top + 1, arc, 0)


def fill(outlines: Sequence[Outline], size: int) -> Masks:
    """Return outlines as regions, bool [N, size, size]."""
    found = np.zeros((len(outlines), size, size), np.uint8)
    for region, corners in zip(found, outlines, strict=True):
        cv2.fillPoly(region, [np.rint(np.array(corners) * size - 0.5).astype(np.int32)], (1,))
    return found > 0


def overlaps(some: Masks, others: Masks) -> Floats:
    """Return intersection over union of regions bool [N, S, S] with others [M, S, S]: float32 [N, M]."""
    one, other = (regions.reshape(len(regions), -1).astype(np.float32) for regions in (some, others))
    both = one @ other.T  # a product of matrices counts the pixels that two have in common
    return np.asarray(both / np.maximum(one.sum(1)[:, None] + other.sum(1) - both, 1))


def _distinct(shapes: Sequence[Outline]) -> tuple[Outline, ...]:
    """Return at most MOST outlines: time and again the one that stands for most of those that are left."""
    shapes = [shapes[i] for i in np.unique(np.linspace(0, len(shapes) - 1, _LOOKED_AT).round().astype(int))]
    regions = fill(shapes, COMPARED)
    alike = overlaps(regions, regions) >= ALIKE
    left = np.ones(len(shapes), bool)
    kept: list[Outline] = []
    while left.any() and len(kept) < MOST:
        best = int(np.argmax((alike & left).sum(1) * left))
        kept.append(shapes[best])
        left &= ~alike[best]
        left[best] = False
    return tuple(kept)
