"""What an image looks like in numbers a physicist would take: speckle, sector, brightness. One row of numbers each.

Speckle is read off the grey levels as an envelope after logarithmic compression, undone with an assumed dynamic range.
So the figures are for comparing sets of images of one center, not for physics.
Source: Nakagami shape by moments, m = E[I]^2 / var(I) of the intensity (Shankar 2000, IEEE T-UFFC 47); compression:
Dutt & Greenleaf 1996 (IEEE T-UFFC 43).
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.quality.bootstrap import Floats

Images = npt.NDArray[np.uint8]
RANGE_DB = 60.0  # assumed, of the display's 255 levels
WINDOW_PX = 7
TISSUE = (20, 235)  # mean grey levels of a window that is neither fluid nor saturated
DARK = 4  # grey levels up to which a pixel may be background
LOOKS = (
    "nakagami_shape",
    "speckle_size_across",
    "speckle_size_along",
    "sector_area",
    "sector_asymmetry",
    "brightness",
    "contrast",
    "saturation",
)


def looks(images: Images) -> Floats:
    """Return one row per image, in the order of `LOOKS`: float64 [N, 8]; NaN where there is no tissue.

    Nakagami shape; the speckle's correlation lengths in pixels, across and along the image's columns; shares of the
    image: sector, where the sector is not its own mirror image, and within it saturated pixels; mean and standard
    deviation of grey levels in the sector.
    """
    return np.stack([_look(image) for image in images]) if len(images) else np.zeros((0, len(LOOKS)))


def sector(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return where an image is not background: the largest part above black, closed and without holes."""
    lit = ndimage.binary_closing(np.pad(image > DARK, 3), iterations=3)[3:-3, 3:-3]
    labels, count = ndimage.label(lit)
    if not count:
        return np.zeros(image.shape, bool)
    largest = 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return np.asarray(ndimage.binary_fill_holes(labels == largest))


def _look(image: npt.NDArray[np.uint8]) -> Floats:
    inside = sector(image)
    if not inside.any():
        return np.full(len(LOOKS), np.nan)
    grey = image[inside].astype(np.float64)
    across, along = (_length(image, axis) for axis in (1, 0))
    shape = inside.mean(), _asymmetry(inside)
    return np.array([_nakagami(image), across, along, *shape, grey.mean(), grey.std(), (grey >= 255).mean()])


def _asymmetry(inside: npt.NDArray[np.bool_]) -> float:
    """Return the share of the image where a sector and its mirror image, laid on its centre, differ."""
    width = inside.shape[1]
    shift = round(2 * float(np.nonzero(inside)[1].mean()) - (width - 1))
    mirrored = np.zeros_like(inside)
    mirrored[:, max(0, shift) : width + min(0, shift)] = inside[:, ::-1][:, max(0, -shift) : width - max(0, shift)]
    return float((inside ^ mirrored).mean())


def _tissue(image: npt.NDArray[np.uint8]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    grey = image.astype(np.float64)
    mean = ndimage.uniform_filter(grey, WINDOW_PX)
    return grey, (mean > TISSUE[0]) & (mean < TISSUE[1])


def _nakagami(image: npt.NDArray[np.uint8]) -> float:
    """Return the median over windows of tissue of the Nakagami shape."""
    grey, tissue = _tissue(image)
    intensity = 10 ** (grey / 255 * RANGE_DB / 10)
    mean = ndimage.uniform_filter(intensity, WINDOW_PX)
    variance = ndimage.uniform_filter(intensity**2, WINDOW_PX) - mean**2
    windows = tissue & (variance > 1e-12 * mean**2)
    return float(np.median(mean[windows] ** 2 / variance[windows])) if windows.any() else float("nan")


def _length(image: npt.NDArray[np.uint8], axis: int) -> float:
    """Return the lag in pixels at which the detail's correlation in tissue falls to one half."""
    grey, tissue = _tissue(image)
    detail = (grey - ndimage.gaussian_filter(grey, 3.0)) * tissue
    power = float((detail**2).sum())
    if power == 0:
        return float("nan")
    side, last = image.shape[axis], 1.0
    for lag in range(1, min(16, side)):
        ahead, behind = (np.take(detail, range(*r), axis) for r in ((lag, side), (0, side - lag)))
        value = float((ahead * behind).sum()) / power
        if value <= 0.5:
            return lag - 1 + (last - 0.5) / (last - value)
        last = value
    return float(min(16, side))
