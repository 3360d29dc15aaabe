import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.fidelity import Sample, frechet, kid, kid_difference, measure, whole_patients
from fetalflex.rng import generator


class Identity(torch.nn.Module):
    """Takes features for images, so that torchmetrics measures what we measure."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def pair(n=60, m=60, d=16, shift=0.4, seed=0):
    rng = generator(seed)
    return rng.normal(size=(n, d)), rng.normal(shift, 1.2, size=(m, d)) @ np.diag(np.linspace(0.5, 1.5, d))


def as_images(x):
    return torch.from_numpy(x)[:, :, None, None].double()


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all extracted features:UserWarning")
def test_kid_equals_torchmetrics():
    x, y = pair()
    metric = KernelInceptionDistance(feature=Identity(16), subsets=1, subset_size=60).set_dtype(torch.float64)
    metric.update(as_images(x), real=True)
    metric.update(as_images(y), real=False)
    assert kid(x, y) == pytest.approx(float(metric.compute()[0]), rel=1e-5)


@pytest.mark.parametrize(("n", "m", "d"), [(80, 60, 16), (20, 30, 48)])
@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all extracted features:UserWarning")
def test_frechet_equals_torchmetrics(n, m, d):
    x, y = pair(n, m, d)
    metric = FrechetInceptionDistance(feature=Identity(d), input_img_size=(d, 1, 1)).set_dtype(torch.float64)
    metric.update(as_images(x), real=True)
    metric.update(as_images(y), real=False)
    assert frechet(x, y) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_frechet_equals_the_formula_with_a_matrix_square_root():
    from scipy.linalg import sqrtm

    x, y = pair(200, 150, 8)
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 12), st.integers(2, 12), st.integers(1, 9))
def test_distances_are_symmetric_and_frechet_is_never_negative(seed, n, m, d):
    x, y = pair(n, m, d, seed=seed)
    assert kid(x, y) == pytest.approx(kid(y, x), abs=1e-9)
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-7, abs=1e-9)
    assert frechet(x, y) > -1e-9
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)


def samples(shift, seed=1, n=80):
    rng = generator(seed)
    real = Sample(rng.normal(size=(n, 12)), np.array([f"p{i // 2}" for i in range(n)]))
    other = Sample(rng.normal(size=(3 * n, 12)), np.array([f"q{i // 2}" for i in range(3 * n)]))
    synthetic = Sample(rng.normal(shift, 1, size=(n, 12)), np.array([f"s{i}" for i in range(n)]))
    return real, synthetic, other


@pytest.mark.parametrize("name", ["kid", "frechet"])
def test_same_distribution_reaches_the_floor_and_another_does_not(name):
    same = {f.name: f for f in measure(*samples(0.0), bootstrap=100, seed=1)}[name]
    moved = {f.name: f for f in measure(*samples(1.0), bootstrap=100, seed=1)}[name]
    assert same.low <= same.floor <= same.high
    assert moved.low > moved.floor
    for found in (same, moved):
        assert found.low <= found.value <= found.high
        assert (found.n_real, found.n_synthetic, found.floor_n) == (80, 80, 80)


def test_kid_intervals_cover_the_true_distance():
    rng = generator(7)
    truth = kid(rng.normal(size=(4000, 4)), rng.normal(0.5, 1, size=(4000, 4)))
    covered = 0
    for i in range(40):
        real, synthetic = rng.normal(size=(50, 4)), rng.normal(0.5, 1, size=(50, 4))
        found, _ = measure(Sample(real, np.arange(50)), Sample(synthetic, np.arange(50)), None, bootstrap=100, seed=i)
        covered += found.low <= truth <= found.high
    assert covered >= 33


def test_small_samples_and_missing_floors_are_said():
    real, synthetic, other = samples(0.0)
    found, _ = measure(real, synthetic, None, bootstrap=10, seed=1)
    assert "small sample: 80 real images of 40 patients" in found.warning
    assert "no floor" in found.warning
    assert found.floor is None
    few = measure(real, synthetic, other.take(np.arange(30)), bootstrap=10, seed=1)[0]
    assert few.floor_n == 30
    assert "floor measured at 30 images" in few.warning
    large = [Sample(np.repeat(s.features, 2, 0), np.arange(2 * len(s))) for s in (real, synthetic)]
    assert measure(*large, None, bootstrap=2, seed=1)[1].warning == "no floor: no real images of other patients"


def test_patients_of_the_reference_never_enter_the_floor():
    real, synthetic, _ = samples(0.0)
    found = measure(real, synthetic, real, bootstrap=5, seed=1)[0]
    assert found.floor is None


def test_whole_patients_are_taken_together():
    clusters = np.repeat(np.array(list("abcdef")), 3)
    chosen = whole_patients(clusters, 6, generator(3))
    assert len(chosen) == 6
    assert len(np.unique(clusters[chosen])) == 2


def test_measuring_depends_on_nothing_but_the_seed():
    real, synthetic, other = samples(0.3)
    again = [measure(real, synthetic, other, bootstrap=20, seed=5) for _ in range(2)]
    assert again[0] == again[1]


def test_one_image_is_too_few():
    real, synthetic, _ = samples(0.0)
    with pytest.raises(TooFewCasesError, match="1 synthetic images"):
        measure(real, synthetic.take([0]), None, bootstrap=5, seed=1)


def test_two_hundred_draws_of_inception_features_take_seconds():
    rng = generator(9)
    real, synthetic, other = (
        Sample(rng.normal(size=(200, 2048)), np.array([f"{s}{i // 2}" for i in range(200)])) for s in "abc"
    )
    started = time.perf_counter()
    measure(real, synthetic, other, bootstrap=200, seed=1)
    assert time.perf_counter() - started < 10


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
