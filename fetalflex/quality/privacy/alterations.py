"""Mild alterations of an image under which a copy is still a copy: what canaries wear."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
Alteration = Callable[[Picture, np.random.Generator], Picture]
CROP = (0.86, 0.95)  # of the side that is kept
GAMMA = (0.65, 1.5)
SPECKLE = 0.2  # standard deviation of the multiplicative noise
COARSE = 0.5  # re-sampled at this share of the side


def flip(image: Picture, _random: np.random.Generator) -> Picture:
    """Mirror left to right."""
    return np.ascontiguousarray(image[:, ::-1])


def crop(image: Picture, random: np.random.Generator) -> Picture:
    """Cut 5 to 14 % of the side off, anywhere, and scale back."""
    side = image.shape[0]
    kept = round(side * random.uniform(*CROP))
    y, x = random.integers(0, side - kept + 1, 2)
    return _scaled(image[y : y + kept, x : x + kept], side, Image.Resampling.BICUBIC)


def gamma(image: Picture, random: np.random.Generator) -> Picture:
    """Bend the grey map, brighter or darker."""
    power = np.exp(random.uniform(*np.log(GAMMA)))
    return np.round(255 * (image / 255.0) ** power).astype(np.uint8)


def speckle(image: Picture, random: np.random.Generator) -> Picture:
    """Multiply by noise of standard deviation 0.2."""
    noisy = image * (1 + SPECKLE * random.standard_normal(image.shape))
    return np.round(noisy).clip(0, 255).astype(np.uint8)


def resample(image: Picture, _random: np.random.Generator) -> Picture:
    """Halve the resolution, and scale back."""
    side = image.shape[0]
    small = _scaled(image, max(1, round(COARSE * side)), Image.Resampling.BOX)
    return _scaled(small, side, Image.Resampling.BICUBIC)


def _scaled(image: Picture, side: int, method: Image.Resampling) -> Picture:
    return np.asarray(Image.fromarray(image).resize((side, side), method))


PLAIN = "plain"
ALTERATIONS: dict[str, Alteration] = {
    PLAIN: lambda image, _random: image,
    "flip": flip,
    "crop": crop,
    "gamma": gamma,
    "speckle": speckle,
    "resample": resample,
}
