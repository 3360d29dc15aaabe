"""Planted ink, judged by the benchmark's own checker: a small version of `python -m benchmarks.ink`."""

import shutil

import numpy as np
import pytest

from benchmarks.ink import holds_token, ink_left, plant_several, read_by_tesseract, wilson
from benchmarks.ink_images import make_clip, phantom_images, region_header
from benchmarks.planting import Condition, conditions
from fetalflex.deid.pixels import PixelCleaner

CONDITIONS = [
    Condition("default", 20, "white", "full", "plain", "tissue"),
    Condition("default", 14, "yellow", "medium", "outline", "tissue"),
    Condition("default", 28, "green", "medium", "shadow", "tissue"),
    Condition("default", 20, "grey", "full", "box", "outside"),
]


def test_the_checker_sees_ink_that_is_left() -> None:
    pixels = np.full((120, 300), 60, np.uint8)
    before, planted = plant_several(pixels, region_header(pixels.shape, None), CONDITIONS[:1], np.random.default_rng(0))
    assert ink_left(planted[0], before, before) == 1
    assert ink_left(planted[0], before, pixels) == 0


@pytest.mark.slow
@pytest.mark.parametrize("colour", [False, True])
def test_no_ink_is_left_on_phantom_images(colour: bool) -> None:
    rng = np.random.default_rng(3)
    for _, pixels, header in phantom_images(2):
        image = np.repeat(pixels[..., None], 3, axis=-1) if colour else pixels
        before, planted = plant_several(image, header, CONDITIONS, rng)
        cleaned = PixelCleaner(header).clean(before).pixels
        assert len(planted) >= 3
        assert [ink_left(ink, before, cleaned) for ink in planted] == [0] * len(planted)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract, the second engine, is not installed")
def test_a_second_engine_reads_what_was_planted_and_none_of_it_after_cleaning() -> None:
    clip, header = make_clip(0, 1)
    before, planted = plant_several(clip[0], header, [CONDITIONS[3]], np.random.default_rng(1))
    cleaned = PixelCleaner(header).clean(before).pixels
    assert holds_token(read_by_tesseract(before, planted[0].box), planted[0].text)
    assert not holds_token(read_by_tesseract(cleaned, planted[0].box), planted[0].text)


def test_an_interval_of_a_share_holds_it_and_stays_within_its_bounds() -> None:
    low, high = wilson(9, 10)
    assert 0.55 < low < 0.9 < high < 1
    assert wilson(10, 10)[1] == 1


@pytest.mark.slow
def test_hardly_any_held_out_token_keeps_ink_on_phantom_images() -> None:
    rng = np.random.default_rng(100_017)
    queue, left = conditions(rng, 24, ("tissue", "tissue", "dark", "outside"), "held-out"), []
    for number, (_, pixels, header) in enumerate(phantom_images(6, 100_050)):
        before, planted = plant_several(pixels, header, queue[4 * number : 4 * number + 4], rng, "held-out")
        cleaned = PixelCleaner(header).clean(before).pixels
        left.extend(ink_left(ink, before, cleaned) for ink in planted)
    assert len(left) >= 18
    assert sum(share > 0 for share in left) <= 1
