"""Texture features that need no network: grey levels, co-occurrence, local binary patterns, gradients.

They see speckle and grain where networks trained on photographs see objects.
Source: Haralick et al. 1973 (co-occurrence); Ojala et al. 2002 (uniform local binary patterns); by scikit-image.
"""

import warnings

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import kurtosis, skew
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

from fetalflex.quality.features.encoder import Features, Images, check_images

LEVELS = 32  # grey levels of the co-occurrence matrix
DISTANCES_PX = (1, 2, 4)
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
PROPERTIES = ("contrast", "dissimilarity", "homogeneity", "ASM", "correlation")
PERCENTILES = (5, 25, 50, 75, 95)
PATTERNS = 10  # uniform patterns of 8 neighbours, and all others
Row = npt.NDArray[np.float64]


class TextureEncoder:
    """83 features per image: 9 of grey levels, 60 of co-occurrence (angles apart), 10 of patterns, 4 of gradients.

    Angles stay apart: speckle is wider across the beam than along it.
    """

    name = "texture-1"

    def features(self, images: Images) -> Features:
        """Return float32 [N, D]. Raises: ModelError where images have another form."""
        check_images(images)
        rows = [_texture(image) for image in images]
        width = len(_texture(np.zeros((16, 16), np.uint8))) if not rows else len(rows[0])
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, width), np.float32)


def _texture(image: npt.NDArray[np.uint8]) -> Row:
    return np.concatenate([_levels(image), _co_occurrence(image), _patterns(image), _gradients(image)])


def _levels(image: npt.NDArray[np.uint8]) -> Row:
    grey = image.astype(np.float64).ravel() / 255
    shape = [0.0, 0.0] if np.ptp(grey) == 0 else [float(skew(grey)) / 4, float(kurtosis(grey)) / 16]
    return np.array([grey.mean(), grey.std(), *shape, *np.percentile(grey, PERCENTILES)])


def _co_occurrence(image: npt.NDArray[np.uint8]) -> Row:
    coarse = (image // (256 // LEVELS)).astype(np.uint8)
    matrix = graycomatrix(coarse, DISTANCES_PX, ANGLES, LEVELS, symmetric=True, normed=True)
    scale = {"contrast": (LEVELS / 4) ** 2, "dissimilarity": LEVELS / 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a black image has no correlation; scikit-image says 1
        return np.concatenate([graycoprops(matrix, p).ravel() / scale.get(p, 1.0) for p in PROPERTIES])


def _patterns(image: npt.NDArray[np.uint8]) -> Row:
    codes = local_binary_pattern(image, 8, 1, "uniform").astype(np.int64)
    return np.bincount(codes.ravel(), minlength=PATTERNS)[:PATTERNS] / codes.size


def _gradients(image: npt.NDArray[np.uint8]) -> Row:
    grey = image.astype(np.float64) / 255
    down, across = ndimage.sobel(grey, 0) / 4, ndimage.sobel(grey, 1) / 4
    size = np.hypot(down, across)
    return np.array([size.mean(), size.std(), np.abs(down).mean(), np.abs(across).mean()])
