import numpy as np
import pytest

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import centred_interval, mean_interval, patient_draws
from fetalflex.rng import generator


def test_images_of_one_patient_are_drawn_together():
    clusters = np.array(["a", "b", "a", "c", "b"])
    weights = patient_draws(clusters, 50, generator(1))
    assert weights.shape == (50, 5)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()


def test_correlated_images_widen_the_interval():
    values = np.repeat(generator(2).normal(size=20), 10)
    apart = mean_interval(values, np.arange(200), 400, generator(3))
    together = mean_interval(values, np.repeat(np.arange(20), 10), 400, generator(3))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = generator(4)
    covered = 0
    for _ in range(200):
        interval = mean_interval(rng.normal(1.5, 1, 40), np.arange(40), 300, rng)
        covered += interval.low <= 1.5 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_unknown_values_are_left_out():
    interval = mean_interval(np.array([1.0, np.nan, 3.0]), np.array(["a", "b", "c"]), 100, generator(5))
    assert interval.value == 2.0
    assert np.isnan(mean_interval(np.array([np.nan]), np.array(["a"]), 10, generator(5)).value)


def test_a_centred_interval_holds_its_estimate():
    interval = centred_interval(1.0, np.linspace(4.0, 6.0, 101))
    assert interval.low == pytest.approx(1 - 0.95)
    assert interval.high == pytest.approx(1 + 0.95)


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(TooFewCasesError, match="no image"):
        patient_draws(np.array([]), 3, generator(1))
