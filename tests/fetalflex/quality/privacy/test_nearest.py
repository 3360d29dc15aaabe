import numpy as np
import pytest

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.privacy.alterations import ALTERATIONS
from fetalflex.quality.privacy.nearest import COPY_CORRELATION, Search, nearest_training
from fetalflex.rng import generator
from tests.fetalflex.quality.privacy.galleries import Blur, gallery, pictures

TRAINING = gallery(40, 1, "t")
SEARCH = Search(TRAINING, Blur())


def test_strangers_are_no_copies():
    found = nearest_training(SEARCH, pictures(30, 3), np.arange(30))
    assert not any(item.near_copy for item in found)
    assert all(0 <= item.distance <= 2 and -1 <= item.correlation <= COPY_CORRELATION for item in found)


@pytest.mark.parametrize("name", sorted(ALTERATIONS))
def test_an_altered_training_image_is_found_again_and_named(name):
    numbers = np.arange(0, 40, 5)
    copies = np.stack([ALTERATIONS[name](TRAINING.images[i], generator(int(i))) for i in numbers])
    found = nearest_training(SEARCH, copies, numbers)
    assert np.mean([item.near_copy for item in found]) >= (0.75 if name == "speckle" else 1)
    assert [item.correlated_case for item in found] == [f"t{i}" for i in numbers]
    assert all(item.mirrored == (name == "flip") for item in found)


def test_a_copy_among_its_blurred_likenesses_is_told_by_its_detail():
    other = pictures(1, 99)[0].astype(float)
    shared = np.clip(0.5 * other + 0.5 * TRAINING.images[3], 0, 255).astype(np.uint8)
    found = nearest_training(SEARCH, np.stack([TRAINING.images[3], shared]), np.arange(2))
    assert found[0].correlation == pytest.approx(1, abs=1e-3)
    assert found[1].correlation < found[0].correlation


def test_a_black_image_is_no_copy():
    found = nearest_training(SEARCH, np.zeros((1, 48, 48), np.uint8), np.array(["s"]))[0]
    assert found.correlation == pytest.approx(0, abs=1e-6)
    assert not found.near_copy


def test_more_images_than_are_looked_up_at_once_are_all_found(monkeypatch):
    whole = SEARCH.find(TRAINING.images[:7])
    monkeypatch.setattr("fetalflex.quality.privacy.nearest._QUERIES", 3)
    found = SEARCH.find(TRAINING.images[:7])
    assert found.by_detail.tolist() == whole.by_detail.tolist() == list(range(7))
    assert found.correlation == pytest.approx(whole.correlation, abs=1e-4)


def test_an_image_is_judged_alike_in_any_company():
    queries = np.concatenate([TRAINING.images[:3], pictures(3, 8)])
    alone = [nearest_training(SEARCH, queries[i : i + 1], np.array([i]))[0] for i in range(6)]
    together = nearest_training(SEARCH, queries, np.arange(6))
    for one, other in zip(alone, together, strict=True):
        assert one.correlated_case == other.correlated_case
        assert one.correlation == pytest.approx(other.correlation, abs=1e-4)


def test_a_single_training_image_is_enough_and_none_is_an_error():
    single = Search(TRAINING.take(np.array([7])), Blur())
    assert nearest_training(single, TRAINING.images[7:8], np.array(["s"]))[0].near_copy
    with pytest.raises(TooFewCasesError, match="no training image"):
        Search(TRAINING.take(np.zeros(0, int)), Blur())
    with pytest.raises(TooFewCasesError, match="no query image"):
        SEARCH.find(np.zeros((0, 48, 48), np.uint8))
