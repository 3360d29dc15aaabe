import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.fidelity.neighbours import neighbours, realism
from tests.fetalflex.quality.fidelity.features import pair


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(7, 60), st.integers(7, 60), st.integers(1, 5))
def test_figures_equal_those_of_prdc(seed, n, m, k):
    x, y = pair(n, m, 6, seed=seed)
    found = neighbours(x, y, k)
    expected = compute_prdc(real_features=x, fake_features=y, nearest_k=k)
    for name, value in expected.items():
        assert getattr(found, name).mean() == pytest.approx(value, abs=1e-12), name


def test_blocks_change_nothing(monkeypatch):
    x, y = pair(70, 50, 6)
    whole = neighbours(x, y)
    monkeypatch.setattr("fetalflex.quality.fidelity.neighbours._BLOCK", 16)
    assert np.array_equal(neighbours(x, y).coverage, whole.coverage)
    assert np.array_equal(neighbours(x, y).density, whole.density)


def test_too_few_images_are_an_error():
    x, y = pair(5, 20)
    with pytest.raises(TooFewCasesError, match="more than 5"):
        neighbours(x, y)


def test_realism_is_above_one_among_real_images_and_falls_with_distance():
    x, _ = pair(60, 5, 6)
    centre = x[np.linalg.norm(x - x.mean(0), axis=1).argsort()[:3]]
    found = realism(x, np.concatenate([centre + 1e-3, centre + 5, centre + 50]))
    assert (found[:3] > 1).all()
    assert (found[:3] > found[3:6]).all()
    assert (found[3:6] > found[6:]).all()
    assert np.isnan(realism(x[:5], x)).all()
