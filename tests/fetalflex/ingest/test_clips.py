"""Stills are chosen by rule, the same ones every time; distinct ones show every scene, a frozen clip gives one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.ingest.clips import CANDIDATES, candidate_numbers, choose_stills, even_numbers, tiny
from fetalflex.params import Clips
from tests.fetalflex.ingest.pictures import head


@given(st.integers(1, 2000), st.integers(1, 40))
def test_even_numbers_are_in_order_in_range_and_spread(total: int, count: int) -> None:
    numbers = even_numbers(total, count)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == min(total, count)
    assert numbers[0] == 0
    assert numbers[-1] < total
    gaps = np.diff([*numbers, total])
    assert gaps.max() - gaps.min() <= 1


@given(st.integers(1, 5000), st.integers(1, 100), st.sampled_from(["even", "distinct"]))
def test_what_must_be_decoded_is_bounded(total: int, count: int, rule: str) -> None:
    clips = Clips(frames=count, rule=rule)  # type: ignore[arg-type]
    numbers = candidate_numbers(total, clips)
    assert len(numbers) <= max(CANDIDATES, count)
    assert len(numbers) >= min(total, count)


def _clip(seeds: list[int]) -> list[np.ndarray]:
    return [tiny(head(seed)) for seed in seeds]


def test_even_takes_its_candidates_and_needs_no_pixels() -> None:
    assert choose_stills([0, 15], [], Clips(frames=2)) == [0, 15]


def test_distinct_takes_one_frame_of_each_scene() -> None:
    seeds = [1] * 10 + [2] * 3 + [3] * 2 + [1] * 5
    numbers = list(range(0, 40, 2))
    chosen = choose_stills(numbers, _clip(seeds), Clips(frames=3, rule="distinct"))
    assert {seeds[numbers.index(n)] for n in chosen} == {1, 2, 3}
    assert chosen == sorted(chosen)
    assert chosen == choose_stills(numbers, _clip(seeds), Clips(frames=3, rule="distinct"))


def test_a_frozen_clip_gives_one_still() -> None:
    random = np.random.default_rng(0)
    frozen = [tiny((head(1) + random.normal(0, 2, (160, 200))).clip(0, 255).astype(np.uint8)) for _ in range(12)]
    assert len(choose_stills(list(range(12)), frozen, Clips(frames=4, rule="distinct"))) == 1


@pytest.mark.parametrize("rule", ["even", "distinct"])
def test_a_still_image_is_its_only_frame(rule: str) -> None:
    clips = Clips(frames=5, rule=rule)  # type: ignore[arg-type]
    assert choose_stills(candidate_numbers(1, clips), _clip([1]), clips) == [0]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=20), st.integers(1, 6))
def test_no_more_stills_than_asked_and_none_twice(seeds: list[int], count: int) -> None:
    shades = [np.full((24, 24), 50 * seed, np.uint8) for seed in seeds]
    chosen = choose_stills(list(range(len(seeds))), shades, Clips(frames=count, rule="distinct"))
    assert len(chosen) == min(count, len(set(seeds)))
    assert len({seeds[n] for n in chosen}) == len(chosen)
