"""Made ultrasound for the tests of duplicates: heads of speckle, and what a second archive makes of them."""

import hashlib
import io
from collections.abc import Sequence

import imagehash
import numpy as np
import polars as pl
from PIL import Image
from scipy import ndimage

from fetalflex.artifacts import picture


def head(seed: int, height: int = 160, width: int = 200) -> np.ndarray:
    """A bright ring with structures of its own, speckle everywhere: every seed is another head in the same place."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    radius = np.hypot((columns - width / 2) / (0.38 * width), (rows - height / 2) / (0.38 * height))
    echo = 40 + 30 * (radius < 1) + 150 * (np.abs(radius - 1) < 0.06)
    echo = echo + 40 * ndimage.gaussian_filter(random.normal(size=(height, width)), 6) * 12
    speckle = ndimage.gaussian_filter(random.rayleigh(size=(height, width)), 1.2)
    return (echo * speckle).clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, quality: int = 50) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def frames(rows: Sequence[tuple[str, str, np.ndarray]]) -> pl.DataFrame:
    """The columns of `tables.Frames` that the finder reads; rows are (center, patient, pixels), ids in their order."""
    found = [
        {
            "case_id": f"case-{i:016}", "center": center, "patient": f"patient-{patient:>16}",
            "image": picture(pixels, f"{i}"),
            "pixels": hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest(),
            "phash": str(imagehash.phash(Image.fromarray(pixels))),
        }
        for i, (center, patient, pixels) in enumerate(rows)
    ]  # fmt: skip
    return pl.DataFrame(found)
