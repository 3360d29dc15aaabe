"""Fréchet distance of two Gaussians fitted to features: the plain figure, and one that is corrected for small samples.

The plain figure grows when images are fewer, by about k / n; so it is compared at equal numbers only. The corrected one
is extrapolated to infinitely many images from the whole sample and its halves, and has an interval that covers the true
distance. Its width comes from each patient's influence on the figure, so no resampling is needed and 50,000 images cost
two eigendecompositions.
Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6; Dowson & Landau 1982; Chong & Forsyth 2020 (arXiv 1911.07023)
for the bias in 1 / n and its extrapolation; Davison & Hinkley 1997, section 2.7, for influence values.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import LEVEL, Array, Floats, Interval, cluster_numbers
from fetalflex.quality.fidelity.sample import Sample

HALVINGS = 20  # random halvings of both samples; each gives two distances
LARGE, LARGE_HALVINGS = 2000, 2  # images of the smaller side from which fewer halvings are as exact
_BLOCK = 4096
_RANK = 1e-10  # of the largest eigenvalue: below is no direction


@dataclass(frozen=True, eq=False)
class Fit:
    """The distance and, per image, its influence: how the distance changes as the image gains weight. float64 [N]."""

    value: float
    of_real: Floats
    of_synthetic: Floats


def frechet(real: Array, synthetic: Array) -> float:
    """Return the plain Fréchet distance of features [N, D], [M, D]. Raises: TooFewCasesError below two a side."""
    return fit(real, synthetic).value


def fit(real: Array, synthetic: Array) -> Fit:
    """Return the plain distance with influences; on Gram matrices where images are fewer than features.

    With centred features X, Y scaled by 1/sqrt(n-1), the trace of sqrt(cov_x cov_y) is the nuclear norm of X Y^T.
    """
    for features in (real, synthetic):
        if len(features) < 2:
            raise TooFewCasesError(f"Fréchet distance: {len(features)} images on a side; expected at least 2")
    small = min(len(real), len(synthetic))
    gap, overlap, shares = (_by_gram if small < real.shape[1] else _by_moments)(real, synthetic)
    means = [features.mean(0, dtype=np.float64) for features in (real, synthetic)]
    spreads, influences = [], []
    for features, mean, away, share in zip((real, synthetic), means, (gap, -gap), shares, strict=True):
        size, along = _about(features, mean, away)
        spread = float(size.sum() / (len(features) - 1))
        spreads.append(spread)
        influences.append(2 * along + (size - spread) - (share - overlap))
    value = float(gap @ gap) + sum(spreads) - 2 * overlap
    return Fit(value, influences[0], influences[1])


@dataclass(frozen=True)
class Distances:
    """The plain distance, and the one extrapolated to infinitely many images with its 95 % interval over patients."""

    plain: float
    corrected: Interval


def distances(real: Sample, synthetic: Sample, rng: np.random.Generator) -> Distances:
    """Return both distances; the plain one is fitted once.

    The corrected one is NaN where a side has fewer than four patients. With fewer images than features the correction
    is not whole: the figure is still too high, and its interval too narrow.
    """
    whole = fit(real.features, synthetic.features)
    numbers = [cluster_numbers(side.clusters) for side in (real, synthetic)]
    counts = [int(n.max()) + 1 for n in numbers]
    if min(counts) < 4:
        return Distances(whole.value, Interval(float("nan"), float("nan"), float("nan")))
    halvings = HALVINGS if min(len(real), len(synthetic)) < LARGE else LARGE_HALVINGS
    halves = [f for _ in range(halvings) for f in _halved((real, synthetic), numbers, counts, rng)]
    value = 2 * whole.value - float(np.mean([f[0] for f in halves]))
    # A curved figure's influences, taken where the sample happens to lie, count the curvature's share of the variance
    # twice: v = s / n + 2 c / n^2 for s / n + c / n^2. It is 2 s / n + 8 c / n^2 in halves, so 3/2 v - v_half / 4.
    own = _variances(whole, numbers)
    variance = max(1.5 * own - float(np.mean([f[1] for f in halves])) / 4, own / 2)
    reach = float(student.ppf((1 + LEVEL) / 2, min(counts) - 1)) * variance**0.5
    return Distances(whole.value, Interval(value, value - reach, value + reach))


def corrected(real: Sample, synthetic: Sample, rng: np.random.Generator) -> Interval:
    """Return the corrected distance alone."""
    return distances(real, synthetic, rng).corrected


def _halved(
    samples: tuple[Sample, Sample], numbers: list[Array], counts: list[int], rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Return the distances of both halves of one random halving of the patients, with their variances."""
    first = []
    for number, count in zip(numbers, counts, strict=True):
        chosen = np.zeros(count, bool)
        chosen[rng.permutation(count)[: count // 2]] = True
        first.append(chosen[number])
    found = []
    for inside in (first, [~f for f in first]):
        if min(int(i.sum()) for i in inside) < 2:
            continue
        here = fit(samples[0].features[inside[0]], samples[1].features[inside[1]])
        found.append((here.value, _variances(here, [n[i] for n, i in zip(numbers, inside, strict=True)])))
    return found


def _variances(found: Fit, numbers: list[Array]) -> float:
    return _variance(found.of_real, numbers[0]) + _variance(found.of_synthetic, numbers[1])


def _variance(influence: Floats, numbers: Array) -> float:
    """Return the variance of a mean of influences, patients being what is drawn."""
    known = cluster_numbers(numbers)
    sums = np.bincount(known, weights=influence - influence.mean())
    count = len(sums)
    return float((sums @ sums) / len(influence) ** 2 * count / (count - 1))


def _by_gram(real: Array, synthetic: Array) -> tuple[Floats, float, tuple[Floats, Floats]]:
    """Return the difference of the means, the nuclear norm, and each image's share in it; n x m instead of D x D."""
    x, y = real.astype(np.float64), synthetic.astype(np.float64)
    gap = x.mean(0) - y.mean(0)
    x, y = (x - x.mean(0)) / np.sqrt(len(x) - 1), (y - y.mean(0)) / np.sqrt(len(y) - 1)
    cross = x @ y.T if len(x) <= len(y) else y @ x.T  # [short, long]
    values, vectors = np.linalg.eigh(cross @ cross.T)
    kept = values > max(float(values[-1]), 0.0) * _RANK**1.2
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    short = (vectors**2) @ roots * (cross.shape[0] - 1)
    long = ((cross.T @ vectors) ** 2) @ (1 / roots) * (cross.shape[1] - 1)
    shares = (short, long) if len(x) <= len(y) else (long, short)
    return gap, float(roots.sum()), shares


def _by_moments(real: Array, synthetic: Array) -> tuple[Floats, float, tuple[Floats, Floats]]:
    """The same from covariances [D, D], block by block."""
    (mean_x, cov_x), (mean_y, cov_y) = _moments(real), _moments(synthetic)
    root, inverse = _powers(cov_y, (0.5, -0.5))
    middle, middle_inverse = _powers(root @ cov_x @ root, (0.5, -0.5))
    forth, back = root @ middle_inverse @ root, inverse @ middle @ inverse
    shares = tuple(
        np.concatenate(
            [
                np.einsum("nd,nd->n", c @ move, c)
                for i in range(0, len(f), _BLOCK)
                for c in [f[i : i + _BLOCK].astype(np.float64) - mean]
            ]
        )
        for f, mean, move in ((real, mean_x, forth), (synthetic, mean_y, back))
    )
    return mean_x - mean_y, float(np.trace(middle)), (shares[0], shares[1])


def _moments(features: Array) -> tuple[Floats, Floats]:
    mean = features.mean(0, dtype=np.float64)
    total = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK].astype(np.float64) - mean
        total += block.T @ block
    return mean, total / (len(features) - 1)


def _powers(matrix: Floats, exponents: tuple[float, ...]) -> list[Floats]:
    """Return powers of a symmetric matrix on the directions that it has."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > max(float(values[-1]), 0.0) * _RANK
    values, vectors = values[kept], vectors[:, kept]
    return [(vectors * values**e) @ vectors.T for e in exponents]


def _about(features: Array, mean: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Return each image's squared distance from the mean, and how far it lies along a direction."""
    sizes, alongs = [], []
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK].astype(np.float64) - mean
        sizes.append(np.einsum("nd,nd->n", block, block))
        alongs.append(block @ direction)
    return np.concatenate(sizes), np.concatenate(alongs)
