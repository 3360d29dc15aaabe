import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from fetalflex.downstream.statistics.metrics import (
    accuracy,
    auc,
    average_precision,
    calibration_error,
    macro_auc,
    macro_f1,
    paired_auc,
)
from fetalflex.rng import generator


@given(st.integers(0, 10_000))
def test_weighted_metrics_equal_scikit_learn(seed):
    rng = generator(seed)
    labels = np.append(rng.integers(0, 3, 40), [0, 1, 2])
    p = rng.dirichlet(np.ones(3), 43).round(1) + 0.01  # many ties
    weights = rng.integers(1, 4, (2, 43))
    for w in range(2):
        sample, found = weights[w], p.argmax(1)
        assert accuracy(p, labels, weights)[w] == pytest.approx(accuracy_score(labels, found, sample_weight=sample))
        f1 = f1_score(labels, found, average="macro", sample_weight=sample)
        assert macro_f1(p, labels, weights)[w] == pytest.approx(f1)
        one = labels == 1
        area = roc_auc_score(one, p[:, 1], sample_weight=sample)
        assert auc(p[:, 1], one, weights)[w] == pytest.approx(area)
        precision = average_precision_score(one, p[:, 1], sample_weight=sample)
        assert average_precision(p[:, 1], one, weights)[w] == pytest.approx(precision)
    mean = np.mean([auc(p[:, c], labels == c, weights) for c in range(3)], axis=0)
    assert macro_auc(p, labels, weights) == pytest.approx(mean)


def test_a_draw_without_a_class_is_not_measured():
    once = np.array([[1, 1, 0]])
    assert np.isnan(auc(np.array([1.0, 2, 3]), np.array([False, False, True]), once)).all()
    assert np.isnan(average_precision(np.array([1.0, 2, 3]), np.array([False, False, True]), once)).all()


def test_weights_act_as_copies():
    scores, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    copied = auc(np.repeat(scores, [2, 1, 3, 1]), np.repeat(truth, [2, 1, 3, 1]), np.ones((1, 7)))
    assert auc(scores, truth, np.array([[2, 1, 3, 1]])) == pytest.approx(copied)


def test_calibration_error_of_a_worked_example():
    """Two images at 0.95, one right; two at 0.65, both right: half of 0.45 and half of 0.35."""
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])
    assert calibration_error(p, np.array([0, 1, 0, 0]), np.ones((1, 4)))[0] == pytest.approx(0.4)


def test_paired_auc_counts_pairs_and_half_of_ties():
    before, after = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 2, 5])
    assert paired_auc(before, after, np.ones((1, 4)))[0] == pytest.approx(2.5 / 4)
