from types import SimpleNamespace

import numpy as np
import pytest

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.privacy.alterations import ALTERATIONS
from fetalflex.quality.privacy.canaries import canary_recall, plant, spread_patients
from fetalflex.quality.privacy.nearest import Search
from fetalflex.rng import generator
from tests.fetalflex.quality.privacy.galleries import Blur, gallery, pictures

TRAINING = gallery(24, 1, "t")
SEARCH = Search(TRAINING, Blur())


def test_every_alteration_is_planted_and_measured_beside_strangers():
    found = plant(SEARCH, pictures(12, 5), 8, seed=1)
    assert [c.alteration for c in found] == list(ALTERATIONS)
    for canary in found:
        assert (canary.n, canary.n_held_out) == (8, 12)
        assert canary.low <= canary.recall <= canary.high
        assert canary.named == canary.recall >= (0.75 if canary.alteration == "speckle" else 1)
        assert canary.false_alarms == 0 < canary.false_alarms_high
    assert canary_recall(found) == np.mean([c.recall for c in found])


def test_strangers_that_are_copies_are_counted_as_false_alarms():
    found = plant(SEARCH, np.concatenate([TRAINING.images[:3], pictures(9, 5)]), 4, seed=1)
    assert found[0].false_alarms == pytest.approx(3 / 12)


def test_a_blind_search_has_a_low_recall(monkeypatch):
    blind = SimpleNamespace(correlation=0.0)
    monkeypatch.setattr("fetalflex.quality.privacy.nearest.compare_views", lambda views, left, right: blind)
    assert canary_recall(plant(SEARCH, pictures(4, 5), 4, seed=1)) == 0


def test_canaries_are_of_as_many_patients_as_there_are():
    chosen = spread_patients(TRAINING, 12, generator(3))
    assert len(set(TRAINING.patients[chosen])) == 12
    assert len(set(spread_patients(TRAINING, 100, generator(3)))) == 24


def test_no_canaries_or_no_strangers_is_an_error():
    with pytest.raises(TooFewCasesError, match="0 planted"):
        plant(SEARCH, pictures(4, 5), 0, seed=1)
    with pytest.raises(TooFewCasesError, match="0 held-out"):
        plant(SEARCH, pictures(0, 5), 4, seed=1)
