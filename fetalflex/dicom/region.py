"""Where in the screen the ultrasound is, how large a pixel is there, and the one way from source to frame pixels.

An image and its masks and boxes go through the same `Geometry`, so they stay aligned.
Source: DICOM PS3.3 C.8.5.5 (US Region Calibration) and 10.7.1.1 (Pixel Spacing).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset

from fetalflex.errors import QuarantineError, Reason

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Rectangle = tuple[int, int, int, int]
PixelBox = tuple[float, float, float, float]

TWO_D, TISSUE, COLOUR_FLOW, CENTIMETRE = 1, 1, 2, 3
ISOTROPIC = 5e-3  # spacings nearer to each other than this (relative) are one
BACKGROUND = (2.0, 12.0)  # grey levels of a screen's dark surroundings: without and with noise of lossy compression
COMPANION = 0.08  # of the largest area: what is as large belongs to the sector (a shadow may cut it in two)
SMALLEST_REGION = 0.05  # of the screen's area
TISSUE_DENSITY = 0.55
MARGIN = 2


@dataclass(frozen=True)
class Calibration:
    """What the header says: region (x0, y0, x1, y1; exclusive end) and (row, column) mm per pixel; None if not said."""

    region: Rectangle | None
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True)
class Geometry:
    """From source to frame pixels: cut `crop` (x0, y0, x1, y1) out, scale it to `size` (height, width).

    `spacing_mm` is the frame's mm per pixel, equal in both directions, or None where the source states none.
    """

    crop: Rectangle
    size: tuple[int, int]
    spacing_mm: float | None

    def image(self, pixels: Grey) -> Grey:
        """Return the frame of a source image [H, W]: area-averaged where it shrinks, linear where one side grows."""
        return self._scaled(pixels)

    def mask(self, mask: Mask) -> Mask:
        """Return the frame's mask of a source mask [H, W], cut at one half."""
        return self._scaled(mask.astype(np.uint8) * 255) > 127

    def box(self, box: PixelBox) -> PixelBox | None:
        """Return a source box in frame pixels, clipped to the frame; None where nothing of it is left."""
        x0, y0, x1, y1 = self.crop
        sx, sy = self.size[1] / (x1 - x0), self.size[0] / (y1 - y0)
        left, right = max(0.0, (box[0] - x0) * sx), min(float(self.size[1]), (box[2] - x0) * sx)
        top, bottom = max(0.0, (box[1] - y0) * sy), min(float(self.size[0]), (box[3] - y0) * sy)
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _scaled(self, pixels: Grey) -> Grey:
        x0, y0, x1, y1 = self.crop
        cut = np.ascontiguousarray(pixels[y0:y1, x0:x1])
        height, width = self.size
        if cut.shape == self.size:
            return cut
        grows = height > cut.shape[0] or width > cut.shape[1]
        # Pillow's linear filter widens with the shrink factor, so it is no worse where only one side grows.
        method = Image.Resampling.BILINEAR if grows else Image.Resampling.BOX
        return np.asarray(Image.fromarray(cut).resize((width, height), method))


def read_calibration(header: Dataset) -> Calibration:
    """Return region and spacing from the header.

    The largest two-dimensional tissue region with bounds within the image counts; bounds beyond it mean that somebody
    resized the image and left the region as it was, so neither bounds nor deltas hold. Pixel Spacing is the second
    source. Spacing needs units of cm (3) and deltas other than zero (their sign only says which way the axis runs).
    """
    regions, stale = _tissue_regions(header)
    if regions:
        box, item = max(regions, key=lambda r: (r[0][2] - r[0][0]) * (r[0][3] - r[0][1]))
        return Calibration(box, _region_spacing(item) or _pixel_spacing(header))
    return Calibration(None, None if stale else _pixel_spacing(header))


def read_regions(header: Dataset) -> tuple[Rectangle, ...]:
    """Return all two-dimensional tissue regions of the header; none where any lies beyond the image (it is stale)."""
    regions, stale = _tissue_regions(header)
    return () if stale else tuple(box for box, _ in regions)


def _tissue_regions(header: Dataset) -> tuple[list[tuple[Rectangle, Any]], bool]:
    """Return the regions within the image with their items, and whether there are others with bounds beyond it."""
    rows, columns = int(header.Rows), int(header.Columns)
    regions: list[tuple[Rectangle, Any]] = []
    stale = False
    for item in header.get("SequenceOfUltrasoundRegions") or []:
        box = _tissue_box(item)
        if box is None:
            continue
        if box[2] > columns + 1 or box[3] > rows + 1:  # some makers give an exclusive end
            stale = True
            continue
        box = (box[0], box[1], min(box[2], columns), min(box[3], rows))
        if box[0] < box[2] and box[1] < box[3]:
            regions.append((box, item))
    return regions, stale


def choose_crop(calibration: Calibration, grey: Grey) -> Rectangle:
    """Return the rectangle to cut out: the header's region, else the bright area that is found in the image.

    A region as large as the whole screen tells a spacing, not where the ultrasound is: then it is looked for, too.
    Raises: QuarantineError no_ultrasound_region, where the header names no region and none is found.
    """
    whole = (0, 0, grey.shape[1], grey.shape[0])
    if calibration.region is not None and calibration.region != whole:
        return calibration.region
    try:
        return find_region(grey)
    except QuarantineError:
        if calibration.region is None:
            raise
        return whole


def find_region(grey: Grey) -> Rectangle:
    """Return the rectangle around the largest connected bright areas: the sector on a dark screen, without texts.

    Raises: QuarantineError no_ultrasound_region where no area is larger than 5 % of the screen.
    """
    return surround(*find_sector(grey), grey.shape)


def surround(sector: Mask, step: int, shape: tuple[int, ...]) -> Rectangle:
    """Return the rectangle around blocks of `step` pixels, with a margin, within a screen of `shape`."""
    ys, xs = np.nonzero(sector.any(axis=1))[0], np.nonzero(sector.any(axis=0))[0]
    left, top = max(0, int(xs.min()) * step - MARGIN), max(0, int(ys.min()) * step - MARGIN)
    right, bottom = (int(xs.max()) + 1) * step + MARGIN, (int(ys.max()) + 1) * step + MARGIN
    return left, top, min(shape[1], right), min(shape[0], bottom)


def find_sector(grey: Grey) -> tuple[Mask, int]:
    """Return the largest connected bright areas, bool in blocks of `step` pixels, and that step.

    Raises: QuarantineError no_ultrasound_region where no area is larger than 5 % of the screen.
    """
    step = max(1, max(grey.shape) // 320)
    height, width = (n // step for n in grey.shape)
    _, over = cv2.threshold(grey[: height * step, : width * step], int(_background(grey)), 255, cv2.THRESH_BINARY)
    # Area interpolation by a whole number is the mean of each block, in 255ths. All in C++: this runs on every still.
    share = cv2.resize(over, (width, height), interpolation=cv2.INTER_AREA)
    # Letters cover a third of their line, speckle most of its area: density tells them apart.
    dense = cv2.blur(share, (5, 5), borderType=cv2.BORDER_CONSTANT) > 255 * TISSUE_DENSITY
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # A dark rim lets areas close and open at the screen's edge as within it.
    area = np.pad(cv2.dilate(dense.view(np.uint8), cross, iterations=2), 4)
    for operation in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN):
        area = cv2.morphologyEx(area, operation, cross, iterations=3)
    # Its own statistics (boxes, centres) would take longer than finding the areas.
    _, labels = cv2.connectedComponents(area[4:-4, 4:-4], connectivity=4, ltype=cv2.CV_16U)
    sizes = np.bincount(labels.ravel())[1:]
    largest = int(sizes.max(initial=0))
    if largest < SMALLEST_REGION * share.size:
        raise QuarantineError(
            Reason.NO_ULTRASOUND_REGION, f"the largest bright area is {100 * largest / share.size:.1f} % of the screen"
        )
    kept = np.concatenate([[False], sizes >= COMPANION * largest])
    return kept[labels], step


def _background(grey: Grey) -> float:
    """Return the level above which a pixel counts as bright: a third of the image's typical level, within limits."""
    counts = np.asarray(cv2.calcHist([grey], [0], None, [256], [0, 256]), dtype=np.int64).ravel()
    counts[: int(BACKGROUND[0]) + 1] = 0
    total = int(counts.sum())
    if not total:
        return BACKGROUND[1]
    ranks = np.cumsum(counts)
    median = (np.searchsorted(ranks, (total + 1) // 2) + np.searchsorted(ranks, total // 2 + 1)) / 2
    return float(np.clip(median / 3, *BACKGROUND))


def fit_geometry(crop: Rectangle, spacing_mm: tuple[float, float] | None, max_side_px: int) -> Geometry:
    """Return the geometry of a crop: isotropic at the finer of its two spacings, then at most `max_side_px` long."""
    width, height = float(crop[2] - crop[0]), float(crop[3] - crop[1])
    spacing: float | None = None
    if spacing_mm is not None:
        row, column = spacing_mm
        spacing = min(row, column)
        if abs(row - column) <= ISOTROPIC * spacing:
            spacing = (row + column) / 2
        else:
            width, height = width * column / spacing, height * row / spacing
    shrink = min(1.0, max_side_px / max(width, height))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    # The longer side's own ratio: rounding falls there with the least weight.
    ratio = max(width, height) / max(size)
    return Geometry(crop, size, None if spacing is None else spacing * ratio)


def _tissue_box(item: Dataset) -> Rectangle | None:
    """Return the bounds (exclusive end) of a two-dimensional region that shows tissue, or None."""
    if int(item.get("RegionSpatialFormat", 0) or 0) != TWO_D:
        return None
    if int(item.get("RegionDataType", 0) or 0) not in (TISSUE, COLOUR_FLOW):
        return None
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    if any(item.get(name) is None for name in names):
        return None
    x0, y0, x1, y1 = (int(item.get(name)) for name in names)
    return (x0, y0, x1 + 1, y1 + 1) if x0 >= 0 and y0 >= 0 and x1 > x0 and y1 > y0 else None


def _region_spacing(item: Dataset) -> tuple[float, float] | None:
    if (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection")) != (CENTIMETRE, CENTIMETRE):
        return None
    spacing = (abs(float(item.get("PhysicalDeltaY") or 0)) * 10, abs(float(item.get("PhysicalDeltaX") or 0)) * 10)
    return spacing if _plausible(spacing) else None


def _pixel_spacing(header: Dataset) -> tuple[float, float] | None:
    value = header.get("PixelSpacing")
    if not value or len(value) != 2:
        return None
    spacing = (float(value[0]), float(value[1]))
    return spacing if _plausible(spacing) else None


def _plausible(spacing: tuple[float, float]) -> bool:
    """Whether both are pixels of a diagnostic image: 1 um to 5 mm."""
    return all(np.isfinite(v) and 1e-3 <= v <= 5 for v in spacing)
