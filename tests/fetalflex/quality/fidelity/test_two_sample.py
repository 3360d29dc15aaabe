import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fetalflex.quality.bootstrap import patient_draws
from fetalflex.quality.fidelity.sample import Sample
from fetalflex.quality.fidelity.two_sample import TwoSample, two_sample
from fetalflex.rng import generator


def sample(n, seed, shift=0.0, features=64, per_patient=2):
    rows = generator(seed).normal(size=(n, features))
    rows[:, 0] += shift
    return Sample(rows, np.array([f"{seed}-{i // per_patient}" for i in range(n)]))


@pytest.mark.parametrize("seed", range(5))
def test_images_of_one_kind_cannot_be_told_apart(seed):
    found = two_sample(sample(150, seed), sample(100, 90 + seed), generator(seed))
    assert found.value() == pytest.approx(0.5, abs=0.13)


def test_one_direction_that_all_synthetic_images_share_is_found_the_better_the_larger():
    areas = [two_sample(sample(150, 1), sample(150, 2, shift), generator(3)).value() for shift in (0, 1, 2, 4)]
    assert areas == sorted(areas)
    assert areas[-1] > 0.95


def test_a_patient_s_images_do_not_vouch_for_each_other():
    """Each patient's images are all but equal: a classifier that had seen one would know the others."""
    rng = generator(4)
    sides = []
    for name in "rs":
        patients = np.repeat(rng.normal(size=(30, 64)), 5, axis=0)
        sides.append(
            Sample(patients + 0.01 * rng.normal(size=patients.shape), np.repeat([f"{name}{i}" for i in range(30)], 5))
        )
    assert two_sample(*sides, generator(5)).value() < 0.7


def test_the_area_and_its_draws_are_those_of_scikit_learn():
    rng = generator(6)
    found = TwoSample(rng.normal(size=30).round(1), rng.normal(0.5, size=20).round(1))
    scores, made = np.concatenate([found.real, found.synthetic]), np.repeat([0, 1], [30, 20])
    assert found.value() == pytest.approx(roc_auc_score(made, scores))
    real, synthetic = (patient_draws(np.arange(n) // 2, 3, rng) for n in (30, 20))
    expected = [
        roc_auc_score(made, scores, sample_weight=np.concatenate([r, s])) for r, s in zip(real, synthetic, strict=True)
    ]
    assert found.drawn(real, synthetic) == pytest.approx(expected)
