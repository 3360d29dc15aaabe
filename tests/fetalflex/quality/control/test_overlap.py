import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.errors import TooFewCasesError
from fetalflex.quality.control.overlap import AS_BOX, AS_MASK, control_dice, dice, image_means, summarise
from fetalflex.rng import generator

K = len(STRUCTURE_NAMES)
masks = arrays(bool, (6, 6))


@given(masks, masks)
def test_dice_is_symmetric_and_between_zero_and_one(a, b):
    if a.any() or b.any():
        assert dice(a, b) == dice(b, a)
        assert 0 <= dice(a, b) <= 1
        assert (dice(a, b) == 1) == np.array_equal(a, b)
    else:
        assert np.isnan(dice(a, b))


def disk(side=32, radius=8):
    y, x = np.mgrid[:side, :side] - side // 2 + 0.5
    return x**2 + y**2 <= radius**2


def asked(kind):
    maps, kinds = np.zeros((2, K, 32, 32), np.float32), np.zeros((2, K), np.int64)
    maps[0, 0], kinds[0, 0] = disk(), kind
    return maps, kinds


def judge_of(maps):
    return lambda images: np.where(maps > 0.5, 0.9, 0.1).astype(np.float32)


IMAGES = np.zeros((2, 32, 32), np.uint8)


def test_only_asked_structures_are_scored():
    maps, kinds = asked(AS_MASK)
    scores = control_dice(judge_of(maps), IMAGES, maps, kinds)
    assert scores[0, 0] == 1.0
    assert np.isfinite(scores).sum() == 1


def test_a_missed_structure_scores_zero():
    maps, kinds = asked(AS_MASK)
    assert control_dice(judge_of(np.zeros_like(maps)), IMAGES, maps, kinds)[0, 0] == 0.0


def test_an_asked_box_is_compared_with_the_box_of_what_is_seen():
    maps, kinds = asked(AS_BOX)
    seen = maps.copy()
    maps[0, 0] = 0
    maps[0, 0, 8:24, 8:24] = 1
    assert control_dice(judge_of(seen), IMAGES, maps, kinds)[0, 0] == 1.0
    kinds[0, 0] = AS_MASK
    assert control_dice(judge_of(seen), IMAGES, maps, kinds)[0, 0] < 0.95


def test_a_judge_of_another_form_is_refused():
    maps, kinds = asked(AS_MASK)
    with pytest.raises(TooFewCasesError, match="expected one mask"):
        control_dice(lambda images: np.zeros((2, K, 8, 8), np.float32), IMAGES, maps, kinds)


def test_figures_stand_beside_the_judges_own_on_real_images():
    rng = generator(1)
    scores, real = np.full((40, K), np.nan), np.full((30, K), np.nan)
    scores[:, 0], scores[::2, 2] = rng.uniform(0.7, 0.8, 40), rng.uniform(0.3, 0.5, 20)
    real[:, 0], real[:, 2], real[:, 5] = 0.9, 0.6, 0.1
    rows = summarise((scores, np.arange(40)), (real, np.arange(30)), bootstrap=100, seed=1)
    assert [r.structure for r in rows] == ["head", "lateral-ventricle", "overall"]
    head, ventricle, overall = rows
    assert head.low <= head.value <= head.high
    assert (head.n, head.n_real, ventricle.n) == (40, 30, 20)
    assert head.real_value == pytest.approx(0.9)
    assert overall.real_value == pytest.approx(0.75)  # the abdomen was not asked


def test_images_without_layout_have_no_mean():
    found = image_means(np.array([[0.5, np.nan], [np.nan, np.nan]]))
    assert found[0] == 0.5
    assert np.isnan(found[1])
