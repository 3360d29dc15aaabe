import numpy as np
from PIL import Image

from fetalflex.deid.motion import Usual
from tests.fetalflex.deid.test_pixels import draw


def moving_speckle(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    grains = [Image.fromarray(rng.rayleigh(40, (160, 240)).clip(0, 255).astype(np.uint8)) for _ in range(count)]
    return [np.asarray(g.resize((480, 320), Image.Resampling.BILINEAR)) for g in grains]


def usual_of(frames: list[np.ndarray]) -> Usual:
    return Usual(np.median(np.stack(frames), axis=0).astype(np.uint8), frames)


def test_moving_speckle_asks_for_no_reading() -> None:
    *others, frame = moving_speckle(8)
    assert usual_of(others[:5]).find_new(frame, []) == []


def test_a_new_word_is_found_with_its_surroundings() -> None:
    *others, frame = moving_speckle(6)
    places = usual_of(others).find_new(draw(frame, (150, 100), "SOLVEIG 271723"), [])
    assert any(x0 < 150 and x1 > 270 and y0 < 100 and y1 > 120 for x0, y0, x1, y1 in places)


def test_a_known_text_is_not_new() -> None:
    *others, frame = moving_speckle(6)
    written = draw(frame, (150, 100), "SOLVEIG 271723")
    assert usual_of(others).find_new(written, [(140, 90, 300, 130)]) == []


def test_text_of_every_frame_is_not_new() -> None:
    frames = [draw(f, (150, 100), "SOLVEIG 271723") for f in moving_speckle(6)]
    assert usual_of(frames[:5]).find_new(frames[5], []) == []
