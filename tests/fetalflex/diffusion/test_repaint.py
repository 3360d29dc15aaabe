import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.diffusion.objective import interpolate
from fetalflex.diffusion.repaint import (
    Canvas,
    compose,
    grow,
    renew,
    renoise,
    repaint,
    repaint_cost,
    repaint_steps,
)
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


@pytest.mark.parametrize(("steps", "jumps"), [(1, 0), (4, 0), (4, 2), (1, 3)])
def test_jumps_cost_what_is_stated(steps: int, jumps: int) -> None:
    calls = []
    repaint(lambda x, t: calls.append(1) or x, Canvas(REFERENCE, region()), time_grid(steps), jumps, draw)  # type: ignore[func-returns-value]
    assert len(calls) == repaint_cost(steps, jumps)


@given(st.integers(1, 60), st.integers(0, 10), st.integers(1, 400))
def test_as_many_steps_as_fit_the_budget_and_no_more(steps: int, jumps: int, budget: int) -> None:
    fitting = repaint_steps(steps, jumps, budget)
    assert 1 <= fitting <= steps
    assert repaint_cost(fitting, jumps) <= budget
    assert fitting == steps or repaint_cost(fitting + 1, jumps) > budget


def outside_noises(jumps: int, side: int = 64) -> list[tuple[float, torch.Tensor]]:
    """Return (t, noise of the outside) as the model sees them in turn."""
    reference, inside = torch.full((1, 1, side, side), 0.4), torch.zeros(1, 1, side, side)
    inside[..., 20:40, 20:40] = 1
    seen: list[tuple[float, torch.Tensor]] = []

    def model(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        noisy = ((x - (1 - t) * reference) / t)[inside == 0]
        seen.append((float(t), noisy))
        return x

    repaint(
        model, Canvas(reference, inside), time_grid(4), jumps, lambda what, k: noise([derive_seed(1, what, k)], side)
    )
    return seen


def test_without_jumps_the_outside_keeps_one_noise() -> None:
    seen = outside_noises(0)
    assert len(seen) == 4
    assert all(torch.allclose(noisy, seen[0][1], atol=1e-4) for _, noisy in seen)


def test_after_every_jump_the_outside_has_standard_normal_noise_again() -> None:
    seen = outside_noises(2)
    for _, noisy in seen:
        assert float(noisy.mean()) == pytest.approx(0, abs=0.06)
        assert float(noisy.std()) == pytest.approx(1, abs=0.05)
    first, jumped = seen[3][1], seen[4][1]  # the second step, before and after its first jump
    assert seen[3][0] == seen[4][0]
    assert 0.3 < float((first * jumped).mean()) < 0.99  # part of it is kept, part of it is new


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.9), st.floats(0.01, 0.99))
def test_renoising_image_and_renewing_its_noise_are_the_same_jump(now: float, share: float) -> None:
    clean, old, fresh = noise([1], 8), noise([2], 8), noise([3], 8)
    s = torch.tensor([now])
    t = s + share * (1 - s)
    jumped = renoise(interpolate(clean, old, s), s, t, fresh)
    assert torch.allclose(jumped, interpolate(clean, renew(old, s, t, fresh), t), atol=1e-4)


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


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(0, 2**16 - 1))
def test_blending_stays_in_the_region_and_leaves_its_core(ramp: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    reference, made = random.integers(0, 256, (2, 16, 16)).astype(np.uint8)
    core = np.zeros((16, 16), bool)
    core[tuple(random.integers(0, 16, 2))] = True
    inside = grow(grow(core, 1), ramp)
    out = compose(made, reference, inside, ramp)
    assert np.array_equal(out[~inside], reference[~inside])
    assert np.array_equal(out[grow(core, 1)], made[grow(core, 1)])
    low, high = np.minimum(made, reference), np.maximum(made, reference)
    assert ((out >= low) & (out <= high)).all()


def test_a_blended_edge_is_a_ramp() -> None:
    inside = np.zeros((8, 8), bool)
    inside[:, 2:] = True
    out = compose(np.full((8, 8), 90, np.uint8), np.zeros((8, 8), np.uint8), inside, 2)
    assert out[4].tolist() == [0, 0, 30, 60, 90, 90, 90, 90]
    whole = compose(np.full((4, 4), 9, np.uint8), np.zeros((4, 4), np.uint8), np.ones((4, 4), bool), 2)
    assert (whole == 9).all()
