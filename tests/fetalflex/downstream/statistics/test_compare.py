import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.downstream.statistics.compare import averaged, draw, holm, interval, two_sided, verdict_of
from fetalflex.downstream.statistics.small import auc_interval, share_interval
from fetalflex.rng import generator

PATIENTS = np.array([f"p{i // 2}" for i in range(20)])


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrected_p_is_never_smaller_and_keeps_the_order(p):
    found = holm(p)
    assert all(c >= v for c, v in zip(found, p, strict=True))
    assert all(found[i] <= found[k] for i in range(len(p)) for k in range(len(p)) if p[i] < p[k])


def test_images_of_one_patient_are_drawn_together_and_row_0_is_the_sample():
    draws = draw(PATIENTS, 3, 50, generator(1))
    assert draws.images.shape == (51, 20)
    assert (draws.images[:, ::2] == draws.images[:, 1::2]).all()
    assert (draws.images[0] == 1).all()
    assert (draws.repeats.sum(1) == 3).all()


def test_the_interval_holds_the_spread_of_trainings_too():
    """Every image agrees, the trainings do not: a bootstrap over images alone would have no width."""
    draws = draw(PATIENTS, 5, 400, generator(1))
    found = interval(averaged(lambda i, w: np.full(len(w), float(i)), draws))
    assert found.value == 2
    assert found.low < 1.5
    assert found.high > 2.5


def test_trainings_that_cannot_be_measured_are_left_out():
    draws = draw(PATIENTS, 2, 10, generator(1))
    found = averaged(lambda i, w: np.full(len(w), np.nan if i else 3.0), draws)
    assert found[0] == 3
    assert all(v == 3 or np.isnan(v) for v in found)


def test_p_is_small_only_where_zero_is_far():
    rng = generator(2)
    assert two_sided(np.append(1.0, rng.normal(1, 0.1, 999))) == pytest.approx(0.002)
    assert two_sided(np.append(0.0, rng.normal(0, 1, 999))) > 0.8
    assert two_sided(np.full(5, np.nan)) == 1.0


def test_verdicts():
    assert [verdict_of(*v) for v in ((0.1, 0.01), (-0.1, 0.01), (0.1, 0.2), (0.0, 0.0))] == [
        "helps", "harms", "no difference shown", "no difference shown",
    ]  # fmt: skip


def test_exact_interval_of_a_share():
    """Clopper and Pearson: 4 of 4 leaves everything from 0.398 on."""
    assert share_interval(4, 4).low == pytest.approx(0.3976, abs=1e-4)
    assert share_interval(4, 4).high == 1
    assert (share_interval(5, 10).low, share_interval(5, 10).high) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert np.isnan(share_interval(0, 0).value)


@given(st.floats(0, 1), st.integers(2, 30), st.integers(2, 30))
def test_auc_interval_holds_its_value_and_stays_wide_for_few_cases(area, positive, negative):
    found = auc_interval(area, positive, negative)
    assert 0 <= found.low <= area <= found.high <= 1
    assert found.high - found.low > 0.05


def test_a_perfect_auc_of_few_cases_is_not_taken_for_certain():
    assert auc_interval(1.0, 4, 13).low < 0.85
