"""Images made small: 16 x 16 to find what looks alike, 96 x 96 to compare its fine detail."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from fetalflex.ingest.alike import SIDE
from fetalflex.quality.bootstrap import Array, Floats

Images = npt.NDArray[np.uint8]
BLURRED = 16  # side of the blurred pixels


def blurred(images: Images) -> Floats:
    """Return 16 x 16 means without the slow shading, as unit rows float32 [N, 256]."""
    small = _resized(images, BLURRED).astype(np.float32)
    return unit_rows((small - ndimage.gaussian_filter(small, (0, 3, 3))).reshape(-1, BLURRED**2))


def thumbnails(images: Images) -> Images:
    """Return what `ingest.alike` compares, uint8 [N, 96, 96]: smaller images are interpolated, larger averaged."""
    return _resized(images, SIDE)


def unit_rows(rows: Array) -> Floats:
    """Return rows [N, D] centred by their own mean and of length 1, float32."""
    centred = rows.astype(np.float32) - rows.mean(axis=1, keepdims=True, dtype=np.float32)
    result: Floats = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return result


def _resized(images: Images, side: int) -> Images:
    method = Image.Resampling.BOX if images.shape[1] >= side else Image.Resampling.BICUBIC
    rows = [np.asarray(Image.fromarray(image).resize((side, side), method)) for image in images]
    return np.stack(rows) if rows else np.zeros((0, side, side), np.uint8)
