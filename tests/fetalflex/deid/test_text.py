from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from benchmarks.ink_images import phantom_images
from fetalflex.deid import text
from fetalflex.deid.text import Found, TextCache, find_text

levels = st.integers(0, 255)


def test_equal_pixels_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(text, "find_text", lambda pixels: calls.append(pixels.shape) or Found(((1, 2, 3, 4),)))
    cache, pixels = TextCache(), np.zeros((40, 50), np.uint8)
    assert cache.find(pixels) == cache.find(pixels.copy()) == Found(((1, 2, 3, 4),))
    cache.find(pixels + 1)
    assert len(calls) == 2


def test_a_folder_keeps_what_was_found_between_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "find_text", lambda pixels: Found(((1, 2, 3, 4),), ((5, 6, 7, 8),)))
    pixels = np.zeros((40, 50), np.uint8)
    TextCache(tmp_path).find(pixels)
    monkeypatch.setattr(text, "find_text", lambda pixels: Found(()))
    assert TextCache(tmp_path).find(pixels) == Found(((1, 2, 3, 4),), ((5, 6, 7, 8),))


def test_the_memory_of_a_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(text, "find_text", lambda pixels: calls.append(1) or Found(()))
    cache = TextCache(size=2)
    for level in (1, 2, 3, 1):
        cache.find(np.full((4, 4), level, np.uint8))
    assert len(calls) == 4


@settings(max_examples=12, deadline=None)
@given(st.tuples(levels, levels, levels), levels, st.sampled_from((12, 18, 26)))
def test_a_word_of_any_colour_on_flat_grey_is_found_whole(colour: tuple[int, int, int], under: int, size: int) -> None:
    if abs(max(colour) - under) < 30:  # the strongest channel is what is looked at
        colour = ((under + 128) % 256,) * 3
    flat = np.full((160, 320, 3), under, np.uint8)
    canvas = Image.fromarray(flat)
    ImageDraw.Draw(canvas).text((60, 60), "Haugland 4711", fill=colour, font=ImageFont.load_default(size))
    left = (np.asarray(canvas) != flat).any(axis=-1)
    assert left.any()
    for x0, y0, x1, y1 in find_text(np.asarray(canvas)).texts:
        left[y0:y1, x0:x1] = False
    assert not left.any()


@pytest.mark.slow
def test_little_of_simulated_tissue_is_taken_for_text() -> None:
    shares = []
    for _, pixels, _ in phantom_images(8):
        taken = np.zeros(pixels.shape, bool)
        for x0, y0, x1, y1 in find_text(pixels).texts:
            taken[y0:y1, x0:x1] = True
        shares.append(float((taken & (pixels > 12)).sum() / (pixels > 12).sum()))
    assert np.mean(shares) < 0.02
    assert max(shares) < 0.12
