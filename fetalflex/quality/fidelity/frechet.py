"""Fréchet distance of two Gaussians fitted to features: the plain figure, and one that is corrected for small samples.

The plain figure grows when images are fewer, by about k / n; so it is compared at equal numbers only. The corrected one
is extrapolated to infinitely many images from the whole sample and its halves, and has an interval that covers the true
distance. Its width comes from each patient's influence on the figure, so no resampling is needed and 50,000 images cost
two eigendecompositions.
Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6; Dowson & Landau 1982; Chong & Forsyth 2020 (arXiv 1911.07023)
for the bias in 1 / n and its extrapolation; Davison & Hinkley 1997, section 2.7, for influence values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import LEVEL, Array, Floats, Interval, cluster_numbers
from fetalflex.quality.fidelity.sample import Sample

HALVINGS = 20  # random halvings of both samples; each gives two distances
LARGE, LARGE_HALVINGS = 2000, 2  # images of the smaller side from which fewer halvings are as exact
RELABELLINGS = 199  # of patients, where the interval's lower end is near 0; not done beyond `LARGE` images
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
    return _distance(_Rows(real), _Rows(synthetic))


def fit(real: Array, synthetic: Array) -> Fit:
    """Return the plain distance with influences. Raises: TooFewCasesError below two a side."""
    return _fit(_Rows(real), _Rows(synthetic))


class _Rows:
    """Some rows of a feature matrix, read block by block: a half of 50,000 images is never copied as a whole."""

    def __init__(self, features: Array, chosen: Array | None = None) -> None:
        self.features, self._chosen = features, chosen

    def __len__(self) -> int:
        return len(self.features) if self._chosen is None else len(self._chosen)

    def blocks(self) -> Iterator[Floats]:
        """Yield float64 [<= 4096, D]."""
        for start in range(0, len(self), _BLOCK):
            rows: Any = slice(start, start + _BLOCK)
            rows = rows if self._chosen is None else self._chosen[rows]
            yield self.features[rows].astype(np.float64)

    def mean(self) -> Floats:
        """Return float64 [D]."""
        total = np.zeros(self.features.shape[1])
        for block in self.blocks():
            total += block.sum(0)
        return total / len(self)


def _fit(real: _Rows, synthetic: _Rows) -> Fit:
    """Return the plain distance with influences; on Gram matrices where images are fewer than features.

    With centred features X, Y scaled by 1/sqrt(n-1), the trace of sqrt(cov_x cov_y) is the nuclear norm of X Y^T.
    """
    gap, overlap, shares = (_by_gram if _few(real, synthetic) else _by_moments)(real, synthetic)
    spreads, influences = [], []
    for side, away, share in zip((real, synthetic), (gap, -gap), shares, strict=True):
        size, along = _about(side, away)
        spread = float(size.sum() / (len(side) - 1))
        spreads.append(spread)
        influences.append(2 * along + (size - spread) - (share - overlap))
    value = float(gap @ gap) + sum(spreads) - 2 * overlap
    return Fit(value, influences[0], influences[1])


def _distance(real: _Rows, synthetic: _Rows) -> float:
    """Return the plain distance alone, which costs half."""
    if _few(real, synthetic):
        return _fit(real, synthetic).value
    (mean_x, cov_x), (mean_y, cov_y) = _moments(real), _moments(synthetic)
    (root,) = _powers(cov_y, (0.5,))
    overlap = float(np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_x @ root), 0)).sum())
    gap = mean_x - mean_y
    return float(gap @ gap + np.trace(cov_x) + np.trace(cov_y)) - 2 * overlap


def _few(real: _Rows, synthetic: _Rows) -> bool:
    """Whether images are fewer than features. Raises: TooFewCasesError below two a side."""
    for side in (real, synthetic):
        if len(side) < 2:
            raise TooFewCasesError(f"Fréchet distance: {len(side)} images on a side; expected at least 2")
    return min(len(real), len(synthetic)) < real.features.shape[1]


@dataclass(frozen=True)
class Distances:
    """The plain distance, and the one extrapolated to infinitely many images with its 95 % interval over patients."""

    plain: float
    corrected: Interval


def distances(real: Sample, synthetic: Sample, rng: np.random.Generator, *, interval: bool = True) -> Distances:
    """Return both distances; the plain one is fitted once. `interval`: whether the corrected one gets its own.

    The corrected one is NaN where a side has fewer than four patients. With fewer images than features the correction
    is not whole: the figure is still too high, and its interval too narrow.
    """
    sides = _Rows(real.features), _Rows(synthetic.features)
    numbers = [cluster_numbers(side.clusters) for side in (real, synthetic)]
    counts = [int(n.max()) + 1 for n in numbers]
    if min(counts) < 4:
        return Distances(_distance(*sides), Interval(float("nan"), float("nan"), float("nan")))
    halvings = HALVINGS if min(map(len, sides)) < LARGE else LARGE_HALVINGS
    halves = [half for _ in range(halvings) for half in _halved(sides, numbers, counts, rng)]
    if not interval:
        plain = _distance(*sides)
        value = 2 * plain - float(np.mean([_distance(*half) for half, _ in halves]))
        return Distances(plain, Interval(value, float("nan"), float("nan")))
    whole = _fit(*sides)
    found = [(here.value, _variances(here, own)) for half, own in halves for here in [_fit(*half)]]
    value = 2 * whole.value - float(np.mean([f[0] for f in found]))
    # A curved figure's influences, taken where the sample happens to lie, count the curvature's share of the variance
    # twice: v = s / n + 2 c / n^2 for s / n + c / n^2. It is 2 s / n + 8 c / n^2 in halves, so 3/2 v - v_half / 4.
    once = _variances(whole, numbers)
    variance = max(1.5 * once - float(np.mean([f[1] for f in found])) / 4, once / 2)
    times = float(student.ppf((1 + LEVEL) / 2, min(counts) - 1))
    reach, shift = _wilson(times, variance, _slope(found) / 2)
    # Near equal distributions the influences vanish and the interval is too narrow. No distance is below 0, and where
    # patients could as well have been dealt out at random, 0 is not excluded.
    low, high = value + shift - reach, max(value + shift + reach, 0.0)
    if 0 < low < 2 * reach and max(map(len, sides)) <= LARGE and _could_be_equal(real, synthetic, whole.value, rng):
        low = 0.0
    return Distances(whole.value, Interval(value, low, high))


def _slope(found: list[tuple[float, float]]) -> float:
    """Return by how much the variance grows with the distance, from those of the halves; never below 0."""
    values, variances = np.array(found).T
    spread = values - values.mean()
    return max(float(spread @ variances) / max(float(spread @ spread), 1e-30), 0.0)


def _wilson(times: float, variance: float, slope: float) -> tuple[float, float]:
    """Return an interval's reach, and by how much its middle lies above the estimate.

    An estimate that came out small has a small variance, too: what is looked for are the distances t that the estimate
    lies within `times` deviations of *their* variance, v + slope (t - estimate). Source: Wilson 1927 (JASA 22), for
    another variance that is linear in what is estimated.
    """
    shift = times**2 * slope / 2
    return (shift**2 + times**2 * variance) ** 0.5, shift


def _could_be_equal(real: Sample, synthetic: Sample, found: float, rng: np.random.Generator) -> bool:
    """Whether the plain distance is usual among those of patients dealt out anew: a permutation test at 5 %."""
    features = np.concatenate([real.features, synthetic.features])
    first, second = (cluster_numbers(side.clusters) for side in (real, synthetic))
    count = int(first.max()) + 1
    numbers = np.concatenate([first, second + count])
    total, larger, most = int(numbers.max()) + 1, 0, (1 - LEVEL) * (RELABELLINGS + 1)
    for _ in range(RELABELLINGS):
        chosen = np.zeros(total, bool)
        chosen[rng.permutation(total)[:count]] = True
        inside = chosen[numbers]
        dealt = [np.nonzero(side)[0] for side in (inside, ~inside)]
        if min(map(len, dealt)) >= 2:
            larger += _distance(*(_Rows(features, rows) for rows in dealt)) >= found
        if larger + 1 > most:
            return True
    return False


def corrected(real: Sample, synthetic: Sample, rng: np.random.Generator) -> Interval:
    """Return the corrected distance alone."""
    return distances(real, synthetic, rng).corrected


def _halved(
    sides: tuple[_Rows, _Rows], numbers: list[Array], counts: list[int], rng: np.random.Generator
) -> list[tuple[tuple[_Rows, _Rows], list[Array]]]:
    """Return both halves of one random halving of the patients, each with the patients of its images."""
    first = []
    for number, count in zip(numbers, counts, strict=True):
        chosen = np.zeros(count, bool)
        chosen[rng.permutation(count)[: count // 2]] = True
        first.append(chosen[number])
    found = []
    for inside in (first, [~f for f in first]):
        places = [np.nonzero(i)[0] for i in inside]
        if min(map(len, places)) >= 2:
            half = _Rows(sides[0].features, places[0]), _Rows(sides[1].features, places[1])
            found.append((half, [n[p] for n, p in zip(numbers, places, strict=True)]))
    return found


def _variances(found: Fit, numbers: list[Array]) -> float:
    return _variance(found.of_real, numbers[0]) + _variance(found.of_synthetic, numbers[1])


def _variance(influence: Floats, numbers: Array) -> float:
    """Return the variance of a mean of influences, patients being what is drawn."""
    known = cluster_numbers(numbers)
    sums = np.bincount(known, weights=influence - influence.mean())
    count = len(sums)
    return float((sums @ sums) / len(influence) ** 2 * count / (count - 1))


def _by_gram(real: _Rows, synthetic: _Rows) -> tuple[Floats, float, tuple[Floats, Floats]]:
    """Return the difference of the means, the nuclear norm, and each image's share in it; n x m instead of D x D."""
    x, y = (np.concatenate(list(side.blocks())) for side in (real, synthetic))
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


def _by_moments(real: _Rows, synthetic: _Rows) -> tuple[Floats, float, tuple[Floats, Floats]]:
    """The same from covariances [D, D], block by block."""
    (mean_x, cov_x), (mean_y, cov_y) = _moments(real), _moments(synthetic)
    root, inverse = _powers(cov_y, (0.5, -0.5))
    middle, middle_inverse = _powers(root @ cov_x @ root, (0.5, -0.5))
    forth, back = root @ middle_inverse @ root, inverse @ middle @ inverse
    shares = tuple(
        np.concatenate([np.einsum("nd,nd->n", c @ move, c) for block in side.blocks() for c in [block - mean]])
        for side, mean, move in ((real, mean_x, forth), (synthetic, mean_y, back))
    )
    return mean_x - mean_y, float(np.trace(middle)), (shares[0], shares[1])


def _moments(side: _Rows) -> tuple[Floats, Floats]:
    mean = side.mean()
    total = np.zeros((len(mean),) * 2)
    for block in side.blocks():
        block -= mean
        total += block.T @ block
    return mean, total / (len(side) - 1)


def _powers(matrix: Floats, exponents: tuple[float, ...]) -> list[Floats]:
    """Return powers of a symmetric matrix on the directions that it has."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > max(float(values[-1]), 0.0) * _RANK
    values, vectors = values[kept], vectors[:, kept]
    return [(vectors * values**e) @ vectors.T for e in exponents]


def _about(side: _Rows, direction: Floats) -> tuple[Floats, Floats]:
    """Return each image's squared distance from the mean, and how far it lies along a direction."""
    mean = side.mean()
    sizes, alongs = [], []
    for block in side.blocks():
        block -= mean
        sizes.append(np.einsum("nd,nd->n", block, block))
        alongs.append(block @ direction)
    return np.concatenate(sizes), np.concatenate(alongs)
