from pathlib import Path

import numpy as np
import pytest

from fetalflex.deid import text
from fetalflex.deid.text import TextCache


def test_equal_pixels_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(text, "find_text", lambda pixels: calls.append(pixels.shape) or ((1, 2, 3, 4),))
    cache, pixels = TextCache(), np.zeros((40, 50), np.uint8)
    assert cache.find(pixels) == cache.find(pixels.copy()) == ((1, 2, 3, 4),)
    cache.find(pixels + 1)
    assert len(calls) == 2


def test_a_folder_keeps_what_was_found_between_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "find_text", lambda pixels: ((1, 2, 3, 4),))
    pixels = np.zeros((40, 50), np.uint8)
    TextCache(tmp_path).find(pixels)
    monkeypatch.setattr(text, "find_text", lambda pixels: ())
    assert TextCache(tmp_path).find(pixels) == ((1, 2, 3, 4),)


def test_the_memory_of_a_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(text, "find_text", lambda pixels: calls.append(1) or ())
    cache = TextCache(size=2)
    for level in (1, 2, 3, 1):
        cache.find(np.full((4, 4), level, np.uint8))
    assert len(calls) == 4
