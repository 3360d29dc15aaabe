import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.diffusion.objective import interpolate
from fetalflex.diffusion.repaint import Canvas, compose, grow, renoise, repaint
from fetalflex.diffusion.solver import noise, time_grid
from fetalflex.rng import derive_seed

REFERENCE = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)


def region() -> torch.Tensor:
    inside = torch.zeros(1, 1, 16, 16)
    inside[..., 4:9, 5:12] = 1
    return inside


def draw(purpose: str, step: int) -> torch.Tensor:
    return noise([derive_seed(0, purpose, step)], 16)


@pytest.mark.parametrize("jumps", [0, 2])
def test_outside_is_the_reference_bit_for_bit(jumps: int) -> None:
    out = repaint(lambda x, t: x - 0.3, Canvas(REFERENCE, region()), time_grid(4), jumps, draw)
    outside = region() == 0
    assert torch.equal(out[outside], REFERENCE[outside])
    assert not torch.equal(out[~outside], REFERENCE[~outside])


def test_jumps_cost_what_is_stated() -> None:
    calls = []
    repaint(lambda x, t: calls.append(1) or x, Canvas(REFERENCE, region()), time_grid(4), 2, draw)  # type: ignore[func-returns-value]
    assert len(calls) == 3 * 4 - 2


def test_the_model_sees_the_reference_at_the_same_noise_level() -> None:
    seen = []
    repaint(lambda x, t: seen.append((x.clone(), t)) or x, Canvas(REFERENCE, region()), time_grid(4), 1, draw)  # type: ignore[func-returns-value]
    outside = region() == 0
    for x, t in seen:
        assert torch.allclose(x[outside], interpolate(REFERENCE, draw("outside", 0), t)[outside], atol=1e-6)


def test_renoised_has_the_law_of_the_path() -> None:
    clean = torch.full((1, 1, 256, 256), 0.5)
    now, later = torch.tensor([0.3]), torch.tensor([0.8])
    x = renoise(interpolate(clean, noise([1], 256), now), now, later, noise([2], 256))
    assert x.mean() == pytest.approx(0.2 * 0.5, abs=0.02)
    assert x.std() == pytest.approx(0.8, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 15), st.integers(0, 15))
def test_grown_region_is_a_square_around_each_pixel(margin: int, row: int, column: int) -> None:
    one = np.zeros((16, 16), bool)
    one[row, column] = True
    rows, columns = np.mgrid[:16, :16]
    near = np.maximum(abs(rows - row), abs(columns - column)) <= margin
    assert np.array_equal(grow(one, margin), near)


def test_composed_pixels_outside_are_the_references_bytes() -> None:
    reference, made = np.full((4, 4), 7, np.uint8), np.full((4, 4), 9, np.uint8)
    inside = np.eye(4, dtype=bool)
    out = compose(made, reference, inside)
    assert (out[inside] == 9).all()
    assert (out[~inside] == 7).all()
    assert out.dtype == np.uint8
