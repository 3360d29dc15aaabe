"""Marks inside the ultrasound (blanked text, calipers): what losses leave out and networks never see.

A network that sees black boxes and crosses learns to draw them. So each mark is filled from its surroundings before
anything reads the frame, and its pixels stay out of every loss. Padding is no mark: it is black in every image, must
be learned as black, and stays in.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.errors import ArtifactError

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
GROWN = 2  # frame pixels by which a mark is grown: compression and resizing smear its edge
AROUND = 12  # frame pixels around a mark that its filling is drawn from
SOFT = 3.0  # frame pixels (standard deviation) by which a filling is smoothed


def read_marks(text: str, height: int, width: int) -> Mask | None:
    """Return where the marks of a `marks` column lie in a frame, grown by two pixels: bool [H, W]; None without marks.

    >>> int(read_marks('[{"kind": "text", "box": [4, 4, 8, 6]}]', 32, 32).sum())
    48
    """
    try:
        boxes = [_box(*item["box"]) for item in json.loads(text)]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"marks of a frame cannot be read ({error}); re-run the stage ingest") from error
    if not boxes:
        return None
    mask = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in boxes:
        top, left = max(0, int(np.floor(y0)) - GROWN), max(0, int(np.floor(x0)) - GROWN)
        mask[top : max(0, int(np.ceil(y1)) + GROWN), left : max(0, int(np.ceil(x1)) + GROWN)] = True
    return mask


def _box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    return float(x0), float(y0), float(x1), float(y1)


def fill_marks(pixels: Grey, mask: Mask) -> Grey:
    """Return a frame [H, W] whose marked pixels are drawn from their surroundings alone, the others as they were.

    The nearest unmarked pixel, smoothed: what was under the mark has no influence at all.
    """
    filled = pixels.copy()
    labels, _ = ndimage.label(mask)
    for rows, columns in ndimage.find_objects(labels):
        window = _grown(rows, pixels.shape[0]), _grown(columns, pixels.shape[1])
        hidden = mask[window]
        if hidden.all():
            filled[window] = 0
            continue
        nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
        drawn: npt.NDArray[Any] = pixels[window][tuple(nearest)].astype(np.float32)
        drawn = ndimage.gaussian_filter(drawn, SOFT, truncate=3)
        filled[window] = np.where(hidden, np.rint(drawn).astype(np.uint8), filled[window])
    return filled


def _grown(line: slice, size: int) -> slice:
    return slice(max(0, line.start - AROUND), min(size, line.stop + AROUND))
