"""Kernel distances, KID and CMMD: the unbiased squared MMD, with any weighting of patients.

Kernel matrices are kept, so a side takes at most `MOST` images: a subsample of whole patients, whose size is reported.
"""

from collections.abc import Callable

import numpy as np

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Array, Floats, Interval, centred_interval, cluster_numbers, patient_draws
from fetalflex.quality.fidelity.sample import Sample
from fetalflex.rng import generator

MOST = 2000
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
Kernel = Callable[[Floats, Floats], Floats]


def cubic(x: Floats, y: Floats) -> Floats:
    """Return (x.y / D + 1)^3, KID's kernel. Source: Binkowski et al. 2018 (arXiv 1801.01401), section 4."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(x: Floats, y: Floats) -> Floats:
    """Return 1000 exp(-|x - y|^2 / (2 sigma^2)) of rows scaled to length 1, sigma 10.

    Source: Jayasumana et al. 2024 (arXiv 2401.09603), section 4 and their code (scale, sigma).
    """
    x, y = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (x, y))
    squares = np.maximum(2 - 2 * (x @ y.T), 0.0)
    return CMMD_SCALE * np.exp(-squares / (2 * CMMD_SIGMA**2))


def kid(real: Array, synthetic: Array) -> float:
    """Return the kernel distance: the unbiased squared MMD with the cubic kernel, over all pairs.

    The mean over random subsets, as others report it, estimates this same number with more noise.
    Source: Binkowski et al. 2018 (arXiv 1801.01401), section 4; Gretton et al. 2012, equation 3.
    """
    return Mmd(Sample(real, np.arange(len(real))), Sample(synthetic, np.arange(len(synthetic))), cubic).value()


def cmmd(real: Array, synthetic: Array) -> float:
    """Return the same with the Gaussian kernel on rows of length 1, of whatever encoder gave them."""
    return Mmd(Sample(real, np.arange(len(real))), Sample(synthetic, np.arange(len(synthetic))), gaussian).value()


def kid_difference(real: Sample, first: Sample, second: Sample, *, bootstrap: int, seed: int) -> Interval:
    """Return KID(first) - KID(second) with its interval, for two sets made of the same sources, image by image.

    Each draw of patients and sources serves both sides, so what the two have in common cancels.
    Raises: TooFewCasesError where the sources of the two differ.
    """
    if not np.array_equal(first.clusters, second.clusters):
        raise TooFewCasesError("kid_difference: the two sets have other sources; expected the same, image by image")
    one, other = Mmd(real, first, cubic), Mmd(real, second, cubic)
    draws = [patient_draws(s.clusters, bootstrap, generator(seed, "kid", i)) for i, s in enumerate((real, first))]
    differences = one.drawn(*draws) - other.drawn(*draws)
    return centred_interval(one.value() - other.value(), differences)


class Mmd:
    """Kernel matrices once, then any weighting of patients."""

    def __init__(self, real: Sample, synthetic: Sample, kernel: Kernel) -> None:
        x, y = real.features.astype(np.float64), synthetic.features.astype(np.float64)
        self.sides = [_within(kernel(x, x), real.clusters), _within(kernel(y, y), synthetic.clusters)]
        self.cross = kernel(x, y)

    def value(self) -> float:
        """Return the distance of the samples as they are."""
        return float(self.drawn(np.ones((1, self.cross.shape[0])), np.ones((1, self.cross.shape[1])))[0])

    def drawn(self, u: Array, v: Array) -> Floats:
        """Unbiased MMD^2 of each draw, float64 [B], where image i counts u[b, i] (v[b, j]) times.

        A pair of two patients counts u[i] u[j] times; a pair of one patient u[i] times (it comes with its patient);
        an image is never paired with itself or with its copy, or resampling would add the kernel's diagonal.
        """
        u, v = u.astype(np.float64), v.astype(np.float64)
        inner = np.zeros(len(u))
        for (apart, apart_ones, together, together_ones), w in zip(self.sides, (u, v), strict=True):
            pairs = _both(w, apart_ones, w) + w @ together_ones
            with np.errstate(invalid="ignore", divide="ignore"):  # a draw of one patient has no pairs: NaN
                inner += (_both(w, apart, w) + w @ together) / pairs
        return np.asarray(inner - 2 * _both(u, self.cross, v) / (u.sum(1) * v.sum(1)))


def _both(left: Floats, matrix: Floats, right: Floats) -> Floats:
    """Return left[b] matrix right[b] for each b: one product of matrices for all draws."""
    return np.asarray(np.einsum("bj,bj->b", left @ matrix, right))


def _within(kernel: Floats, clusters: Array) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the kernel between patients, its ones, and the row sums within a patient (no diagonal), their ones."""
    numbers = cluster_numbers(clusters)
    apart = (numbers[:, None] != numbers[None, :]).astype(np.float64)
    together = 1 - apart - np.eye(len(numbers))
    return kernel * apart, apart, (kernel * together).sum(1), together.sum(1)
