import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.fidelity.frechet import corrected, fit, frechet
from fetalflex.quality.fidelity.sample import Sample
from fetalflex.rng import generator
from tests.fetalflex.quality.fidelity.features import Identity, as_images, pair


@pytest.mark.parametrize(("n", "m", "d"), [(80, 60, 16), (20, 30, 48)])
def test_frechet_equals_torchmetrics(n, m, d):
    x, y = pair(n, m, d)
    metric = FrechetInceptionDistance(feature=Identity(d), input_img_size=(d, 1, 1)).set_dtype(torch.float64)
    metric.update(as_images(x), real=True)
    metric.update(as_images(y), real=False)
    assert frechet(x, y) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_frechet_equals_the_formula_with_a_matrix_square_root():
    x, y = pair(200, 150, 8)
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet(x, y) == pytest.approx(expected, rel=1e-9)


def test_both_ways_of_computing_agree():
    x, y = pair(40, 30, 32)
    assert frechet(x[:, :20], y[:, :20]) == pytest.approx(
        frechet(*(np.pad(v[:, :20], ((0, 0), (0, 60))) for v in (x, y)))
    )


@pytest.mark.parametrize(("n", "m", "d"), [(80, 60, 8), (20, 30, 48)])
def test_influences_are_the_change_by_an_images_weight(n, m, d):
    x, y = pair(n, m, d)
    found = fit(x, y)
    step = 1e-3 * n

    def at(extra):
        weights = np.ones(n)
        weights[3] += extra
        mean = weights @ x / weights.sum()
        centred = np.sqrt(weights / weights.sum() * n / (n - 1))[:, None] * (x - mean)
        other = (y - y.mean(0)) / np.sqrt(m - 1)
        overlap = np.linalg.svd(centred @ other.T, compute_uv=False).sum()
        return ((mean - y.mean(0)) ** 2).sum() + (centred**2).sum() + (other**2).sum() - 2 * overlap

    slope = (at(step) - at(-step)) / (2 * step) * n
    assert slope == pytest.approx(found.of_real[3], rel=0.05, abs=0.05 * abs(found.of_real).mean())


def drawn(rng, shift, n=200, d=6, cluster=1):
    numbers = np.arange(n) // cluster
    own = rng.normal(size=(n, d))
    shared = rng.normal(size=(numbers.max() + 1, d))[numbers]
    return Sample((own if cluster == 1 else np.sqrt(0.5) * (own + shared)) + shift, numbers)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [1, 4])
def test_the_corrected_interval_covers_the_true_distance(cluster):
    rng = generator(12, cluster)
    shift = np.array([0.8, 0, 0, 0, 0, 0])
    found = [
        corrected(drawn(rng, 0 * shift, cluster=cluster), drawn(rng, shift, cluster=cluster), rng) for _ in range(120)
    ]
    covered = np.mean([i.low <= 0.64 <= i.high for i in found])
    assert 0.88 <= covered <= 0.99
    spread = np.std([i.value for i in found])
    assert np.mean([i.value for i in found]) == pytest.approx(0.64, abs=3 * spread / np.sqrt(120))


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_interval_covers_distances_of_and_near_zero(shift):
    rng = generator(13)
    moved = np.array([shift, 0, 0, 0])
    found = [corrected(drawn(rng, 0 * moved, n=100, d=4), drawn(rng, moved, n=100, d=4), rng) for _ in range(60)]
    assert 0.88 <= np.mean([i.low <= shift**2 <= i.high for i in found]) <= 1
    assert all(i.high >= 0 for i in found)


def test_the_plain_figure_is_biased_upwards_and_the_corrected_is_not():
    rng = generator(5)
    pairs = [(drawn(rng, 0.0, n=60), drawn(rng, 0.0, n=60)) for _ in range(30)]
    assert np.mean([frechet(a.features, b.features) for a, b in pairs]) > 0.3
    assert abs(np.mean([corrected(a, b, rng).value for a, b in pairs])) < 0.1


def test_too_few_images_or_patients_are_said():
    x, y = pair(10, 10)
    with pytest.raises(TooFewCasesError, match="1 images"):
        frechet(x[:1], y)
    few = corrected(Sample(x, np.arange(10) // 5), Sample(y, np.arange(10)), generator(1))
    assert np.isnan(few.value)
    assert np.isnan(few.low)


def test_fifty_thousand_images_need_no_square_of_their_number():
    rng = generator(3)
    x, y = (Sample(rng.normal(size=(20_000, 32)).astype(np.float32), np.arange(20_000)) for _ in range(2))
    found = corrected(x, y, rng)
    assert abs(found.value) < 0.01
    assert found.low < 0 < found.high


def test_torch_features_are_taken_like_numpys():
    x, y = pair(30, 30, 4)
    assert frechet(torch.from_numpy(x).numpy(), y) == frechet(x, y)
