import numpy as np
import pytest

from fetalflex.deid.constancy import find_constant_ink
from tests.fetalflex.deid.test_motion import moving_speckle
from tests.fetalflex.deid.test_overlay import left_of, write


@pytest.mark.parametrize("count", [3, 4, 5])
def test_letters_that_stay_while_speckle_moves_are_found(count: int) -> None:
    frames = moving_speckle(count)
    level = round(float(np.mean(frames)))
    written = [write(frame, "ID 1660940 Ingrid", level, 12) for frame in frames]
    assert left_of(frames[0], written[0], find_constant_ink(written), 7) == 0


def test_letters_of_three_frames_in_five_are_found() -> None:
    frames = moving_speckle(5)
    written = [write(f, "ID 1660940 Ingrid", 90, 14) if i in (0, 2, 3) else f for i, f in enumerate(frames)]
    assert left_of(frames[0], written[0], find_constant_ink(written), 7) == 0


def test_moving_speckle_has_no_constant_ink() -> None:
    assert find_constant_ink(moving_speckle(5)) == []
    assert find_constant_ink([frame // 8 + 40 for frame in moving_speckle(5)]) == []


def test_frozen_tissue_is_no_ink_whether_all_or_half_of_it_is() -> None:
    first, *others = moving_speckle(5)
    half = [np.where(np.arange(480) < 240, first, frame).astype(np.uint8) for frame in others]
    assert find_constant_ink([first] * 5) == []
    covered = np.zeros(first.shape, bool)
    for x0, y0, x1, y1 in find_constant_ink(half):
        covered[y0:y1, x0:x1] = True
    assert covered.mean() < 0.02


def test_two_frames_tell_nothing() -> None:
    frames = moving_speckle(2)
    assert find_constant_ink([write(frame, "ID 1660940", 90) for frame in frames]) == []
