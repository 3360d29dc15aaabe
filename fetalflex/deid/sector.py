"""What of a screen is ultrasound: the regions that the header names, and within them the scan-converted sector."""

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from fetalflex.dicom.region import Grey, Mask, find_sector, read_regions, surround
from fetalflex.errors import QuarantineError

WHOLE = 0.98  # of the screen's area: a region that large says nothing about where the ultrasound is
HULL_MARGIN = 0.02  # of the shorter side: the sector's edge is fainter than its middle


def find_kept(header: Dataset, grey: Grey) -> Mask:
    """Return which pixels of the screen are ultrasound, bool [H, W]; all others are blanked.

    All two-dimensional regions of the header count where they lie within the image and are smaller than the screen;
    else the sector is looked for in the image. Within a region only the convex hull of what is bright and dense is
    kept: a fan leaves corners where devices write. `grey` of a clip is the brightest of some frames.
    Raises: QuarantineError no_ultrasound_region where the header names none and none is found.
    """
    screen = grey.shape[0] * grey.shape[1]
    regions = read_regions(header)
    boxes = [b for b in regions if (b[2] - b[0]) * (b[3] - b[1]) < WHOLE * screen]
    if not boxes or len(boxes) < len(regions):
        return _look_for(grey, bool(regions))
    kept = np.zeros(grey.shape, dtype=bool)
    for x0, y0, x1, y1 in boxes:
        kept[y0:y1, x0:x1] |= _hull(grey[y0:y1, x0:x1])
    return kept


def _look_for(grey: Grey, whole_screen: bool) -> Mask:
    """Return where the sector is; the whole screen where the header says so and nothing else is found."""
    try:
        blocks, step = find_sector(grey)
    except QuarantineError:
        if not whole_screen:
            raise
        return np.ones(grey.shape, dtype=bool)
    x0, y0, x1, y1 = surround(blocks, step, grey.shape)
    found = _fill(blocks, step, grey.shape, min(x1 - x0, y1 - y0))
    within = np.zeros_like(found)
    within[y0:y1, x0:x1] = found[y0:y1, x0:x1]
    return within


def _hull(grey: Grey) -> Mask:
    """Return the convex hull of the dense bright areas of a region, with a margin; all of it where there are none."""
    try:
        blocks, step = find_sector(grey)
    except QuarantineError:
        return np.ones(grey.shape, dtype=bool)
    return _fill(blocks, step, grey.shape, min(grey.shape))


def _fill(blocks: Mask, step: int, shape: tuple[int, ...], side_px: int) -> Mask:
    """Return the convex hull [H, W] of blocks, with a margin for a region whose shorter side is `side_px`."""
    rows = np.nonzero(blocks.any(axis=1))[0]
    left, right = blocks.argmax(axis=1)[rows], blocks.shape[1] - blocks[:, ::-1].argmax(axis=1)[rows]
    # The corners of each row's first and last block: all else lies between them.
    corners = np.concatenate([np.stack([x, rows + j], axis=1) for x in (left, right) for j in (0, 1)]) * step
    hull: npt.NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)
    outline = cv2.convexHull(corners.astype(np.int32))
    cv2.fillConvexPoly(hull, outline, 1)
    # A thick outline is the margin, at a fraction of a dilation's cost.
    cv2.polylines(hull, [outline], True, 1, thickness=2 * max(4, round(HULL_MARGIN * side_px)))
    return hull.view(np.bool_)
