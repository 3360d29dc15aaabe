"""How far synthetic images lie from real ones: KID and Fréchet distance on features, with intervals and a floor.

Both work on Gram matrices, so that hundreds of bootstrap draws of 2048 features take seconds. The floor is the same
distance between real images of different patients, at the same numbers: no generator can be asked to do better.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Array, Floats, Interval, centred_interval, cluster_numbers, patient_draws
from fetalflex.rng import generator

SMALL_IMAGES, SMALL_PATIENTS, FLOOR_SPLITS = 100, 30, 10


@dataclass(frozen=True)
class Sample:
    """Features float [N, D] and the patient (or source case) of each image, str [N]."""

    features: Array
    clusters: Array

    def __len__(self) -> int:
        return len(self.features)

    def take(self, index: Array) -> "Sample":
        """Return the images of these positions."""
        return Sample(self.features[index], self.clusters[index])


@dataclass(frozen=True)
class Fidelity:
    """One distance with its interval. `floor`: real against other real images, None where there are none.

    `warning`: why the figure is to be read with care, or an empty text.
    """

    name: str
    value: float
    low: float
    high: float
    n_real: int
    n_synthetic: int
    floor: float | None
    floor_n: int | None
    warning: str


def kid(real: Array, synthetic: Array) -> float:
    """Return the kernel distance: the unbiased squared MMD with the kernel (x.y / D + 1)^3, over all pairs.

    The mean over random subsets, as others report it, estimates this same number with more noise.
    Source: Binkowski et al. 2018 (arXiv 1801.01401), section 4; Gretton et al. 2012, equation 3.
    """
    return _Kid(Sample(real, np.arange(len(real))), Sample(synthetic, np.arange(len(synthetic)))).value()


def frechet(real: Array, synthetic: Array) -> float:
    """Return the Fréchet distance of the Gaussians fitted to two feature sets.

    With centred features X, Y scaled by 1/sqrt(n-1), the trace of sqrt(cov_x cov_y) is the nuclear norm of X Y^T:
    exact, and n x m instead of D x D.
    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6; Dowson & Landau 1982.
    """
    return _Frechet(Sample(real, np.arange(len(real))), Sample(synthetic, np.arange(len(synthetic)))).value()


def measure(
    real: Sample, synthetic: Sample, other_real: Sample | None, *, bootstrap: int, seed: int
) -> tuple[Fidelity, ...]:
    """Return KID and Fréchet distance of synthetic to real (test patients), with intervals over patients and floor.

    `other_real` holds real images of patients that are not in `real` (train); images of shared patients are left
    out. Fewer than `synthetic` has, and the floor is measured at that smaller number, which the warning says.
    Raises: TooFewCasesError for fewer than two images on a side.
    """
    for name, sample in (("real", real), ("synthetic", synthetic)):
        if len(sample) < 2:
            raise TooFewCasesError(f"fidelity: {len(sample)} {name} images; expected at least 2")
    kinds: dict[str, type[_Kid] | type[_Frechet]] = {"kid": _Kid, "frechet": _Frechet}
    return tuple(_measure(name, kind, (real, synthetic, other_real), bootstrap, seed) for name, kind in kinds.items())


def kid_difference(real: Sample, first: Sample, second: Sample, *, bootstrap: int, seed: int) -> Interval:
    """Return KID(first) - KID(second) with its interval, for two sets made of the same sources, image by image.

    Each draw of patients and sources serves both sides, so what the two have in common cancels.
    Raises: TooFewCasesError where the sources of the two differ.
    """
    if not np.array_equal(first.clusters, second.clusters):
        raise TooFewCasesError("kid_difference: the two sets have other sources; expected the same, image by image")
    one, other = _Kid(real, first), _Kid(real, second)
    draws = [patient_draws(s.clusters, bootstrap, generator(seed, "kid", i)) for i, s in enumerate((real, first))]
    differences = np.array([one.drawn(u, v) - other.drawn(u, v) for u, v in zip(*draws, strict=True)])
    return centred_interval(one.value() - other.value(), differences)


def _measure(
    name: str,
    kind: "type[_Kid] | type[_Frechet]",
    samples: tuple[Sample, Sample, Sample | None],
    bootstrap: int,
    seed: int,
) -> Fidelity:
    real, synthetic, other = samples
    distance = kind(real, synthetic)
    weights = [patient_draws(s.clusters, bootstrap, generator(seed, name, i)) for i, s in enumerate((real, synthetic))]
    draws = np.array([distance.drawn(u, v) for u, v in zip(*weights, strict=True)])
    interval = centred_interval(distance.value(), draws)
    if name == "frechet":
        interval = Interval(interval.value, max(0.0, interval.low), interval.high)
    floor, floor_n = _floor(lambda a, b: kind(a, b).value(), real, other, len(synthetic), seed)
    return Fidelity(
        name, interval.value, interval.low, interval.high, len(real), len(synthetic), floor, floor_n,
        _warning(name, real, synthetic, floor_n),
    )  # fmt: skip


def _floor(
    distance: Callable[[Sample, Sample], float], real: Sample, other: Sample | None, count: int, seed: int
) -> tuple[float | None, int | None]:
    """Return the mean distance of `real` to random draws of `count` images of other patients, and their number."""
    if other is None:
        return None, None
    apart = np.nonzero(~np.isin(other.clusters, real.clusters))[0]
    if len(apart) < 2:
        return None, None
    n = min(count, len(apart))
    splits = 1 if n == len(apart) else FLOOR_SPLITS
    chosen = [whole_patients(other.clusters[apart], n, generator(seed, "floor", i)) for i in range(splits)]
    return float(np.mean([distance(real, other.take(apart[index])) for index in chosen])), n


def whole_patients(clusters: Array, count: int, rng: np.random.Generator) -> Array:
    """Return `count` positions, patient by patient in random order (the last patient may be cut)."""
    numbers = cluster_numbers(clusters)
    order = rng.permutation(int(numbers.max()) + 1)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.argsort(rank[numbers], kind="stable")[:count]


def _warning(name: str, real: Sample, synthetic: Sample, floor_n: int | None) -> str:
    parts = []
    n, patients = min(len(real), len(synthetic)), len(np.unique(real.clusters))
    if n < SMALL_IMAGES or patients < SMALL_PATIENTS:
        parts.append(f"small sample: {len(real)} real images of {patients} patients, {len(synthetic)} synthetic")
    if name == "frechet" and n <= real.features.shape[1]:
        parts.append("fewer images than features: biased upwards, to be compared at the same numbers only")
    if floor_n is None:
        parts.append("no floor: no real images of other patients")
    elif floor_n < len(synthetic):
        parts.append(f"floor measured at {floor_n} images")
    return "; ".join(parts)


class _Kid:
    """Kernel matrices once, then any weighting of patients."""

    def __init__(self, real: Sample, synthetic: Sample) -> None:
        x, y = real.features.astype(np.float64), synthetic.features.astype(np.float64)
        self.sides = [_within(_kernel(x, x), real.clusters), _within(_kernel(y, y), synthetic.clusters)]
        self.cross = _kernel(x, y)

    def value(self) -> float:
        return self.drawn(np.ones(self.cross.shape[0]), np.ones(self.cross.shape[1]))

    def drawn(self, u: Array, v: Array) -> float:
        """Unbiased MMD^2 where image i counts u[i] (v[j]) times.

        A pair of two patients counts u[i] u[j] times; a pair of one patient u[i] times (it comes with its patient);
        an image is never paired with itself or with its copy, or resampling would add the kernel's diagonal.
        """
        inner = 0.0
        for (apart, apart_ones, together, together_ones), w in zip(self.sides, (u, v), strict=True):
            pairs = w @ apart_ones @ w + together_ones @ w
            inner += float((w @ apart @ w + together @ w) / pairs) if pairs else float("nan")
        return float(inner - 2 * (u @ self.cross @ v) / (u.sum() * v.sum()))


def _kernel(x: Floats, y: Floats) -> Floats:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(kernel: Floats, clusters: Array) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the kernel between patients, its ones, and the row sums within a patient (no diagonal), their ones."""
    numbers = cluster_numbers(clusters)
    apart = (numbers[:, None] != numbers[None, :]).astype(np.float64)
    together = 1 - apart - np.eye(len(numbers))
    return kernel * apart, apart, (kernel * together).sum(1), together.sum(1)


class _Frechet:
    """Gram matrices once, then any weighting of patients."""

    def __init__(self, real: Sample, synthetic: Sample) -> None:
        x, y = real.features.astype(np.float64), synthetic.features.astype(np.float64)
        offset = x.mean(0)  # Taken off both sides, which changes no distance, so that the Gram matrices lose no digits.
        x, y = x - offset, y - offset
        self.xx, self.yy, self.xy = x @ x.T, y @ y.T, x @ y.T

    def value(self) -> float:
        return self.drawn(np.ones(self.xy.shape[0]), np.ones(self.xy.shape[1]))

    def drawn(self, u: Array, v: Array) -> float:
        """The distance where image i counts u[i] (v[j]) times."""
        i, j = np.nonzero(u)[0], np.nonzero(v)[0]
        u, v = u[i].astype(np.float64), v[j].astype(np.float64)
        if u.sum() < 2 or v.sum() < 2:
            return float("nan")
        xx, yy, xy = self.xx[np.ix_(i, i)], self.yy[np.ix_(j, j)], self.xy[np.ix_(i, j)]
        p, q = u / u.sum(), v / v.sum()
        means = p @ xx @ p + q @ yy @ q - 2 * p @ xy @ q
        variance_x = (u @ np.diag(xx) - u.sum() * (p @ xx @ p)) / (u.sum() - 1)
        variance_y = (v @ np.diag(yy) - v.sum() * (q @ yy @ q)) / (v.sum() - 1)
        centred = xy - (p @ xy)[None, :] - (xy @ q)[:, None] + p @ xy @ q
        scale = np.sqrt(u / (u.sum() - 1))[:, None] * np.sqrt(v / (v.sum() - 1))[None, :]
        overlap = np.linalg.svd(centred * scale, compute_uv=False).sum()
        return float(means + variance_x + variance_y - 2 * overlap)
