import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.fidelity.sample import Sample
from fetalflex.quality.privacy.membership import membership_inference
from fetalflex.quality.thumbnails import unit_rows
from fetalflex.rng import generator


def rows(n, seed):
    return unit_rows(generator(seed).normal(size=(n, 12)))


def sample(n, seed):
    return Sample(rows(n, seed), np.arange(n) // 2)


def test_a_generator_that_repeats_its_training_set_is_found_out():
    members = sample(60, 1)
    noisy = unit_rows(members.features + 0.02 * generator(9).normal(size=(60, 12)))
    attacks = membership_inference(members, sample(60, 2), noisy, rows(60, 3), bootstrap=100, seed=1)
    assert [a.attack for a in attacks] == ["distance", "calibrated"]
    assert all(a.low > 0.9 for a in attacks)


def test_fresh_images_tell_nothing():
    attack = membership_inference(sample(200, 1), sample(200, 2), rows(200, 3), None, bootstrap=200, seed=1)[0]
    assert abs(attack.auc - 0.5) < 0.1
    assert attack.low - 0.05 < 0.5 < attack.high + 0.05


def test_the_auc_equals_sklearns():
    members, others, made = sample(40, 1), sample(30, 2), rows(50, 3)
    scores = [(s.features @ made.T).max(1) for s in (members, others)]
    expected = roc_auc_score([1] * 40 + [0] * 30, np.concatenate(scores))
    found = membership_inference(members, others, made, None, bootstrap=10, seed=1)[0]
    assert found.auc == pytest.approx(expected, abs=1e-9)


def test_an_empty_side_is_an_error():
    with pytest.raises(TooFewCasesError, match="no held-out image"):
        membership_inference(sample(4, 1), sample(0, 2), rows(4, 3), None, bootstrap=5, seed=1)
