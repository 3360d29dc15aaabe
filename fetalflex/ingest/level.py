"""How bright a frame's tissue is: what gain, depth compensation and grey map together made of it."""

import numpy as np
import numpy.typing as npt

from fetalflex.dicom.region import find_sector
from fetalflex.errors import QuarantineError

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
TRIM = (5.0, 95.0)  # percentiles: shadows and bone say nothing of the gain


def tissue_level(pixels: Grey, marked: Mask | None = None) -> float:
    """Return the trimmed mean grey level (0 to 255) of a frame [H, W] inside its sector, marks left out.

    Where no sector stands out (a frame that is all tissue, or nearly black), all pixels that are not black count.
    """
    inside = _sector(pixels)
    if marked is not None:
        inside &= ~marked
    values = pixels[inside]
    if not values.size:
        return 0.0
    low, high = np.percentile(values, TRIM)
    return float(values[(values >= low) & (values <= high)].mean())


def _sector(pixels: Grey) -> Mask:
    try:
        blocks, step = find_sector(pixels)
    except QuarantineError:
        return pixels > 0
    inside = np.zeros(pixels.shape, bool)
    whole = np.kron(blocks, np.ones((step, step), bool))
    inside[: whole.shape[0], : whole.shape[1]] = whole
    return inside
