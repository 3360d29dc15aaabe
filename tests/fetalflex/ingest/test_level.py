"""The level follows gain, not the black around the sector, nor texts and calipers."""

import numpy as np
import pytest

from fetalflex.ingest.level import tissue_level
from tests.fetalflex.ingest.pictures import head


def test_black_surroundings_do_not_lower_the_level() -> None:
    tissue = head(1)
    framed = np.pad(tissue, 60)
    assert tissue_level(framed) == pytest.approx(tissue_level(tissue), rel=0.1)


def test_more_gain_is_a_higher_level() -> None:
    dim, bright = (np.clip(head(1) * gain, 0, 255).astype(np.uint8) for gain in (0.6, 1.2))
    assert tissue_level(bright) == pytest.approx(2 * tissue_level(dim), rel=0.15)


def test_marks_and_a_few_bright_pixels_do_not_count() -> None:
    tissue = head(2)
    drawn, marked = tissue.copy(), np.zeros(tissue.shape, bool)
    drawn[40:90, 30:150], marked[40:90, 30:150] = 0, True
    plain = tissue.copy()
    plain[::16, ::16] = 255
    assert tissue_level(drawn, marked) == pytest.approx(tissue_level(tissue, marked), rel=0.02)
    assert tissue_level(plain) == pytest.approx(tissue_level(tissue), rel=0.02)


def test_frames_without_tissue_have_a_level() -> None:
    assert tissue_level(np.zeros((40, 40), np.uint8)) == 0
    assert tissue_level(head(1), np.ones((160, 200), bool)) == 0
