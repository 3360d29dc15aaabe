"""The numbers behind the checks that look at an image alone. All rise with the fault."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.quality.fidelity.looks import sector

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
VISIBLE = 8  # grey levels up to which a pixel is black to the eye, beside tissue
_MEDIAN_PX = 5
_PERIODS = (2, 4, 8)  # pixels: what patches, up-sampling and transposed convolutions leave
_BEHIND = 0.25  # of the side: how far behind a bone its shadow is looked for


def written(image: Picture) -> float:
    """Return how much grey levels jump up and down along the densest line of the image, as a row of letters does.

    The mean second difference across, in the window of a short word where it is largest. Bone is brighter, but wide;
    speckle is as narrow, but fainter or not in a row.
    """
    grey, side = image.astype(np.float32), image.shape[0]
    jumps = np.abs(grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2])
    word = (max(5, side // 32 + 1), max(16, side // 8))
    return float(ndimage.uniform_filter(jumps, word, mode="constant").max())


def grid_power(image: Picture) -> float:
    """Return by how much the spectrum's rows and columns at a grid's frequencies stand out of their neighbours, log10.

    The largest over periods of 2, 4 and 8 pixels and both directions.
    """
    side = image.shape[0]
    window = np.hanning(side + 2)[1:-1]
    grey = image.astype(np.float64)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(window, window))) ** 2
    found = [0.0]
    for profile in (power.sum(0), power.sum(1)):
        lines = np.log10(profile[: side // 2 + 1] + 1e-3)
        for period in _PERIODS:
            at = side // period
            around = [j for d in (3, 4, 5) for j in (at - d, at + d) if 0 < j <= side // 2]
            found.append(float(lines[at] - np.median(lines[around])))
    return max(found)


def saturation(image: Picture) -> float:
    """Return the share of the sector's pixels that are white."""
    inside = sector(image)
    return float((image[inside] >= 250).mean()) if inside.any() else 1.0


def lit_outside(image: Picture, lit: Mask) -> float:
    """Return the visible light (mean grey level over the whole image's area) where a center's images are always black.

    A pixel counts by what it has above `VISIBLE`.
    """
    return float((image[~lit].clip(VISIBLE) - VISIBLE).sum() / image.size)


def dark_inside(image: Picture, lit: Mask) -> float:
    """Return the share of where a center's images always show tissue that lies in a black patch of this one."""
    if not lit.any():
        return 0.0
    return float((ndimage.maximum_filter(image, _MEDIAN_PX)[lit] <= VISIBLE).mean())


def shadow_depth(image: Picture, bone: Mask) -> float:
    """Return how bright it is behind a bone over how bright it is beside, at the same depths; NaN without bone.

    The beam is taken to run down the image, as in a sector it nearly does in the middle.
    """
    if not bone.any():
        return float("nan")
    side = image.shape[0]
    rows, columns = np.nonzero(bone)
    first, last = rows.max() + 2, min(side, rows.max() + 2 + round(_BEHIND * side))
    left, right = columns.min(), columns.max() + 1
    width = max(3, (right - left) // 2)
    behind = image[first:last, left:right].astype(np.float64)
    beside = np.concatenate(
        [image[first:last, max(0, left - width) : left], image[first:last, right : right + width]], 1
    )
    if behind.size < 9 or beside.size < 9:
        return float("nan")
    return float((behind.mean() + 4) / (beside.mean() + 4))
