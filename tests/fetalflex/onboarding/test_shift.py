"""Shift: Cliff's delta as defined, sample sizes told, small samples warned of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.onboarding.shift import cliffs_delta, compare, count_planes

NUMBERS = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=20).map(np.array)


@given(NUMBERS, NUMBERS)
def test_delta_is_what_all_pairs_say(a: np.ndarray, b: np.ndarray) -> None:
    pairs = np.sign(a[:, None] - b[None])
    assert cliffs_delta(a, b) == pytest.approx(pairs.mean())
    assert cliffs_delta(b, a) == pytest.approx(-pairs.mean())


def _rows(level: float, count: int, spacing: float | None = 0.2) -> list[dict[str, object]]:
    return [
        {"level": level + i, "spacing_mm": spacing, "height": 100, "width": 200, "sector": 60.0, "plane": "brain"}
        for i in range(count)
    ]


def test_a_brighter_center_is_a_large_shift_with_its_sample_sizes() -> None:
    level, spacing, *_ = compare(_rows(120, 30), {"south": _rows(20, 25)})
    assert (level.delta, level.size, level.few) == (1.0, "large", False)
    assert level.new is not None
    assert (level.new.count, level.others[0].count) == (30, 25)
    assert (spacing.delta, spacing.size) == (0.0, "negligible")


def test_few_frames_are_warned_of() -> None:
    assert compare(_rows(120, 5), {"south": _rows(20, 25)})[0].few


def test_without_other_centers_nothing_is_compared() -> None:
    level = compare(_rows(120, 5), {})[0]
    assert level.delta is None
    assert level.new is not None


def test_a_measure_that_nobody_states_is_left_out() -> None:
    spacing = compare(_rows(1, 3, None), {"south": _rows(1, 3)})[1]
    assert spacing.new is None
    assert spacing.delta is None


def test_planes_are_counted_per_center() -> None:
    assert count_planes(_rows(1, 2), {"south": _rows(1, 3)}) == {"brain": {"new": 2, "south": 3}}
