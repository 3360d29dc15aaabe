import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from fetalflex.deid.overlay import boxes_around, find_coloured_layers, find_even_layers
from tests.fetalflex.deid.test_motion import moving_speckle


def even_boxes(grey: np.ndarray) -> list:
    return [box for layer in find_even_layers(grey) for box in boxes_around(layer.ink, 5)]


def coloured_boxes(pixels: np.ndarray) -> list:
    return [box for layer in find_coloured_layers(pixels) for box in boxes_around(layer.ink, 8)]


def write(
    pixels: np.ndarray, text: str, fill: object, size: int = 14, where: tuple[int, int] = (120, 90)
) -> np.ndarray:
    canvas = Image.fromarray(pixels)
    ImageDraw.Draw(canvas).text(where, text, fill=fill, font=ImageFont.load_default(size))
    return np.asarray(canvas)


def left_of(before: np.ndarray, written: np.ndarray, boxes: list[tuple[int, int, int, int]], margin: int) -> int:
    ink = before != written
    ink = ink.any(axis=-1) if ink.ndim == 3 else ink
    assert ink.any()
    for x0, y0, x1, y1 in boxes:
        ink[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin] = False
    return int(ink.sum())


@pytest.mark.parametrize("turns", [0, 1])
def test_letters_as_bright_as_the_tissue_are_found_by_their_level(turns: int) -> None:
    (speckle,) = moving_speckle(1)
    level = round(float(speckle.mean()))
    before, written = speckle, write(speckle, "HAUGLAND Ingrid 4711", level, 16)
    before, written = (np.ascontiguousarray(np.rot90(p, turns)) for p in (before, written))
    assert left_of(before, written, even_boxes(written), 8) == 0


def test_speckle_has_hardly_any_even_ink() -> None:
    boxes = [box for frame in moving_speckle(8) for box in even_boxes(frame)]
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) < 0.002 * 8 * 320 * 480


def test_few_levels_tell_nothing() -> None:
    (speckle,) = moving_speckle(1)
    assert even_boxes(speckle // 8 * 8) == []


def test_flat_and_smooth_pictures_have_no_even_ink() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (200, 2))
    assert even_boxes(np.full((200, 300), 80, np.uint8)) == []
    assert even_boxes(ramp) == []


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(((255, 230, 40), (60, 255, 60), (90, 60, 200))), st.floats(0.4, 1), st.sampled_from((8, 14, 30)))
def test_coloured_ink_is_found_whole_over_a_tint(colour: tuple[int, int, int], shade: float, size: int) -> None:
    (speckle,) = moving_speckle(1)
    tinted = (speckle[..., None] * np.array([1, 0.85, 0.6])).astype(np.uint8)
    written = write(tinted, "Solveig 4711", tuple(round(c * shade) for c in colour), size)
    assert left_of(tinted, written, coloured_boxes(written), 6) == 0


def test_a_tint_is_no_ink_and_flow_is_none() -> None:
    (speckle,) = moving_speckle(1)
    tinted = (speckle[..., None] * np.array([1, 0.85, 0.6])).astype(np.uint8)
    flow = tinted.copy()
    flow[100:200, 100:300] = (200, 30, 20)
    assert coloured_boxes(tinted) == []
    assert coloured_boxes(flow) == []
    assert coloured_boxes(np.repeat(speckle[..., None], 3, axis=-1)) == []


def test_an_outline_is_covered_in_cells_not_with_what_it_surrounds() -> None:
    ink = np.zeros((300, 400), bool)
    ink[50, 60:340] = ink[250, 60:340] = ink[50:251, 60] = ink[50:251, 339] = True
    covered = np.zeros_like(ink)
    for x0, y0, x1, y1 in boxes_around(ink, 4):
        covered[y0:y1, x0:x1] = True
    assert covered[ink].all()
    assert covered.mean() < 0.1


def test_dust_is_no_ink() -> None:
    ink = np.zeros((100, 100), bool)
    ink[::40, ::40] = True
    assert boxes_around(ink, 2) == []


def test_a_large_letter_is_no_end_of_the_grey_map() -> None:
    (speckle,) = moving_speckle(1)
    level = int(np.percentile(speckle, 80))
    written = write(speckle, "Brattvoll 985517", level, 40, (20, 90))
    assert left_of(speckle, written, even_boxes(written), 8) == 0


def test_coloured_words_on_a_small_picture_are_no_flow() -> None:
    (speckle,) = moving_speckle(1)
    grey = np.repeat(speckle[:200, :300, None], 3, axis=-1)
    written = write(grey, "Sorrento 383843", (254, 229, 40), 26, (10, 80))
    assert 0.02 < (grey != written).any(axis=-1).mean() < 0.03
    assert left_of(grey, written, coloured_boxes(written), 8) == 0
