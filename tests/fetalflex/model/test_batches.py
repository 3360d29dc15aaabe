import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import TooFewCasesError
from fetalflex.model.batches import (
    Moves,
    augment,
    batch_positions,
    cases_digest,
    learning_rate,
    step_random,
    to_pixels,
    to_signal,
)
from tests.fetalflex import tiny


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 5))
def test_every_epoch_shows_every_case_once(count: int, batch: int, seed: int) -> None:
    shown = np.concatenate([batch_positions(seed, step, count, batch) for step in range(count)])
    for epoch in range(batch):
        assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_no_case_is_refused() -> None:
    with pytest.raises(TooFewCasesError, match="no case"):
        batch_positions(0, 0, 0, 4)


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(s, 100, 1.0, 10) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.05, abs=1e-2)


def test_pixels_survive_the_way_to_signal_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert np.array_equal(to_pixels(to_signal(levels)), levels)


def test_digest_depends_on_every_pixel() -> None:
    one, other = tiny.cases(2), tiny.cases(2)
    assert cases_digest(one) == cases_digest(other)
    other.images[0, 0, 0] += 1
    assert cases_digest(one) != cases_digest(other)


def test_a_mirror_moves_image_and_maps_alike_without_interpolation() -> None:
    cases = tiny.cases(2)
    signal, maps = to_signal(cases.images), torch.from_numpy(cases.masks).float()
    moved, drawn = augment(signal, maps, Moves(flip=1.0), step_random(0, "x"))
    assert torch.allclose(moved, signal.flip(-1), atol=1e-6)
    assert torch.equal(drawn, maps.flip(-1))


@given(st.integers(0, 1000), st.sampled_from([0.03, 0.1, 0.4]))
def test_shifts_alone_are_whole_pixels_and_interpolate_nothing(seed: int, shift: float) -> None:
    size, limit = 16, round(16 * shift)
    signal = torch.rand(3, 1, size, size, generator=step_random(seed, "image")) * 2 - 1
    maps = (signal > 0.5).float()
    moved, drawn = augment(signal, maps, Moves(flip=0.5, shift=shift), step_random(seed, "moves"))
    for before, after, outline in zip(signal[:, 0], moved[:, 0], drawn[:, 0], strict=True):
        wide = torch.nn.functional.pad(before + 1, (limit,) * 4) - 1
        windows = [
            flipped[y : y + size, x : x + size]
            for flipped in (wide, wide.flip(-1))
            for y in range(2 * limit + 1)
            for x in range(2 * limit + 1)
        ]
        assert any(torch.allclose(after, window, atol=1e-6) for window in windows)
        assert torch.equal(outline, (after > 0.5).float())


def test_augmentation_keeps_maps_on_what_they_outline() -> None:
    cases = tiny.cases()
    signal, maps = to_signal(cases.images), torch.from_numpy(cases.masks).float()
    moves = Moves(flip=0.5, rotation_deg=10, scale=0.1, shift=0.05, log_gamma=0.3)
    moved, drawn = augment(signal, maps, moves, step_random(1, "x"))
    again, _ = augment(signal, maps, moves, step_random(1, "x"))
    assert torch.equal(moved, again)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    head = drawn[:, :1] > 0
    assert moved[head].mean() > moved[~head].mean() + 0.5
    assert moved.min() >= -1.001
