"""Fluid by its grey level: what is dark where it was asked is measured, and nothing where nothing is dark."""

import numpy as np

from benchmarks.packed_measure import fluid_region
from fetalflex.rng import generator


def painted(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy head of grey 120 with a dark box of that width, and the head."""
    noise = generator(1, "fluid").normal(0, 12, (256, 256))
    head = np.zeros((256, 256), bool)
    head[40:216, 30:226] = True
    image = np.where(head, 120.0, 10.0)
    image[120 : 120 + width, 100:160] = 25
    return np.clip(image + noise, 0, 255).astype(np.uint8), head


def test_the_dark_region_is_found_though_another_width_was_asked() -> None:
    image, head = painted(30)
    asked = np.zeros_like(head)
    asked[120:144, 100:160] = True
    seen = fluid_region(image, asked, head)
    rows = np.flatnonzero(seen[:, 130])
    assert abs((rows[-1] - rows[0] + 1) - 30) <= 3


def test_where_nothing_is_dark_there_is_no_region() -> None:
    image, head = painted(0)
    asked = np.zeros_like(head)
    asked[120:144, 100:160] = True
    assert fluid_region(np.where(asked, 200, image).astype(np.uint8), asked, head).sum() == 0
