"""Making images equal in all but what they show: size, form of file, length in bytes, black."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from fetalflex.errors import UsageError

Pixels = npt.NDArray[np.uint8]
BLACK = 6  # grey levels up to this are black: padding is exactly 0 in real images and nearly 0 in synthetic ones


def blinded(images: Sequence[Pixels], side: int) -> list[bytes]:
    """Return one PNG per image, side x side: same chunks, same length, whatever the image.

    They are stored uncompressed: the length of a compressed image tells how smooth it is.
    Raises: UsageError for an image that is no square.
    """
    return [_png(_levelled(image, side)) for image in images]


def _levelled(pixels: Pixels, side: int) -> Pixels:
    if pixels.ndim != 2 or pixels.shape[0] != pixels.shape[1]:
        raise UsageError(f"an image of a reader study is a square; found {pixels.shape}")
    if pixels.shape[0] != side:
        pixels = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
    return np.where(pixels <= BLACK, 0, pixels).astype(np.uint8)


def _png(pixels: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", compress_level=0)
    return out.getvalue()
