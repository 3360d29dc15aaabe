from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import TooFewCasesError, UsageError
from fetalflex.reader_study.draw import APART, Design, draw_images, draw_order
from tests.fetalflex.reader_study.studies import DESIGN, candidates


def test_every_plane_and_center_has_as_many_real_as_synthetic_images() -> None:
    found = draw_images(candidates(), DESIGN)
    counts = Counter((c.plane, c.center, c.truth) for c in found)
    assert len(found) == 16
    assert set(counts.values()) == {2}
    assert len({c.origin for c in found}) == 16


def test_the_same_seed_is_the_same_study_and_another_is_another() -> None:
    shuffled = candidates()[::-1]
    names = [c.origin for c in draw_images(candidates(), DESIGN)]
    assert [c.origin for c in draw_images(shuffled, DESIGN)] == names
    assert [c.origin for c in draw_images(candidates(), replace(DESIGN, seed=6))] != names


def test_cells_that_are_full_leave_their_share_to_others() -> None:
    few = [c for c in candidates() if c.center == "north" or not c.origin.endswith(("1", "2", "3", "4", "5", "6", "7"))]
    counts = Counter((c.center, c.truth) for c in draw_images(few, replace(DESIGN, images=20)))
    assert counts == {("north", "real"): 8, ("north", "synthetic"): 8, ("south", "real"): 2, ("south", "synthetic"): 2}
    with pytest.raises(TooFewCasesError, match="18 pairs"):
        draw_images(few, replace(DESIGN, images=60))


@pytest.mark.parametrize("wrong", [{"images": 7}, {"images": 2}, {"repeats": 17}, {"readers": 0}])
def test_an_impossible_design_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="even number"):
        draw_images(candidates(), replace(DESIGN, **wrong))


@given(st.integers(20, 80), st.integers(0, 20), st.integers(0, 1000))
def test_each_reader_sees_all_and_repeats_stand_well_apart(count: int, repeats: int, seed: int) -> None:
    design = Design(count, min(repeats, count), 2, seed)
    order = draw_order(count, design, "R01")
    assert sorted(i for i, again in order if not again) == list(range(count))
    for place, (image, again) in enumerate(order):
        if again:
            first = next(k for k, (i, seen) in enumerate(order) if i == image and not seen)
            assert first < place
            assert place - first > APART or place == len(order) - 1 or place >= len(order) - design.repeats
    assert sum(again for _, again in order) == design.repeats
    assert order != draw_order(count, design, "R02")
    assert order == draw_order(count, design, "R01")
