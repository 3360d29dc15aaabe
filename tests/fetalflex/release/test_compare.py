"""Equal bytes on the same kind of device; elsewhere a stated tolerance, which does not excuse a wrong image."""

import numpy as np
import pytest

from fetalflex.release.compare import MEAN_GREY_LEVELS, compare, differing, summary

GREY = np.full((16, 16), 100, np.uint8)


def test_one_grey_level_is_a_difference_on_the_same_kind_of_device() -> None:
    other = GREY.copy()
    other[3, 4] += 1
    remade = [compare("a", GREY, GREY), compare("b", GREY, other)]
    assert [r.identical for r in remade] == [True, False]
    assert [d.name for d in differing(remade, same_kind=True)] == ["b"]
    assert differing(remade, same_kind=False) == []


def test_differences_do_not_wrap_around() -> None:
    found = compare("a", np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    assert (found.mean_grey_levels, found.largest_grey_levels) == (255.0, 255)


def test_another_size_differs() -> None:
    assert not compare("a", GREY, GREY[:8, :8]).within


@pytest.mark.parametrize(("wrong", "named"), [(1, 0), (2, 2)])
def test_elsewhere_single_images_may_leave_the_tolerance(wrong: int, named: int) -> None:
    far = GREY + np.uint8(MEAN_GREY_LEVELS + 1)
    remade = [compare(str(n), GREY, far if n < wrong else GREY) for n in range(20)]
    assert len(differing(remade, same_kind=False)) == named
    assert summary(remade)["identical"] == 20 - wrong
