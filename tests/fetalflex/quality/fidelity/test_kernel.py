import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.kid import KernelInceptionDistance

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.fidelity.frechet import frechet
from fetalflex.quality.fidelity.kernel import cmmd, kid, kid_difference
from fetalflex.quality.fidelity.sample import Sample, whole_patients
from fetalflex.rng import generator
from tests.fetalflex.quality.fidelity.features import Identity, as_images, pair


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all extracted features:UserWarning")
def test_kid_equals_torchmetrics():
    x, y = pair()
    metric = KernelInceptionDistance(feature=Identity(16), subsets=1, subset_size=60).set_dtype(torch.float64)
    metric.update(as_images(x), real=True)
    metric.update(as_images(y), real=False)
    assert kid(x, y) == pytest.approx(float(metric.compute()[0]), rel=1e-5)


def test_cmmd_is_the_unbiased_mmd_of_unit_rows():
    x, y = pair(30, 20)
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))

    def mean(p, q, same):
        kernel = 1000 * np.exp(-((p[:, None] - q[None]) ** 2).sum(-1) / 200)
        return (kernel.sum() - np.trace(kernel)) / (len(p) * (len(p) - 1)) if same else kernel.mean()

    assert cmmd(x, y) == pytest.approx(mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 12), st.integers(2, 12), st.integers(1, 9))
def test_distances_are_symmetric_and_frechet_is_never_negative(seed, n, m, d):
    x, y = pair(n, m, d, seed=seed)
    assert kid(x, y) == pytest.approx(kid(y, x), abs=1e-9)
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-7, abs=1e-9)
    assert frechet(x, y) > -1e-9
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)


def test_whole_patients_are_taken_together():
    clusters = np.repeat(np.array(list("abcdef")), 3)
    chosen = whole_patients(clusters, 6, generator(3))
    assert len(chosen) == 6
    assert len(np.unique(clusters[chosen])) == 2


def test_kid_difference_is_paired():
    rng = generator(5)
    real, first = rng.normal(size=(60, 16)), rng.normal(0.5, 1, size=(50, 16))
    patients, sources = np.arange(60), np.repeat(np.arange(25), 2)
    near = Sample(first + 0.01 * rng.normal(size=first.shape), sources)
    one, other = Sample(first, sources), Sample(rng.normal(0.5, 1, size=first.shape), sources)
    same = kid_difference(Sample(real, patients), one, one, bootstrap=50, seed=1)
    close = kid_difference(Sample(real, patients), near, one, bootstrap=200, seed=1)
    apart = kid_difference(Sample(real, patients), other, one, bootstrap=200, seed=1)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert close.value == pytest.approx(kid(real, near.features) - kid(real, first), abs=0.01)
    assert close.high - close.low < 0.2 * (apart.high - apart.low)


def test_kid_difference_of_other_sources_is_refused():
    x, y = pair()
    real, first = Sample(x, np.arange(60)), Sample(y, np.arange(60))
    with pytest.raises(TooFewCasesError, match="other sources"):
        kid_difference(real, first, Sample(y, np.arange(60)[::-1]), bootstrap=5, seed=1)
