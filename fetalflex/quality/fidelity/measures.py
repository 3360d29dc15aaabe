"""Every measure as one pair of functions over two sides: the figure alone, and the figure with its interval."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from fetalflex.quality.bootstrap import (
    Array,
    Floats,
    Interval,
    centred_interval,
    mean_interval,
    patient_draws,
    percentile_interval,
)
from fetalflex.quality.features.encoder import Encoder
from fetalflex.quality.fidelity.diversity import draw_pairs, feature_distance, ms_ssim
from fetalflex.quality.fidelity.frechet import Distances, distances
from fetalflex.quality.fidelity.kernel import MOST, Kernel, Mmd, cubic, gaussian
from fetalflex.quality.fidelity.looks import LOOKS
from fetalflex.quality.fidelity.lpips import lpips
from fetalflex.quality.fidelity.neighbours import NEIGHBOURS, neighbours
from fetalflex.quality.fidelity.repeats import repeated
from fetalflex.quality.fidelity.sides import Side
from fetalflex.quality.fidelity.two_sample import FOLDS, MOST_SEEN, two_sample

MOST_NEIGHBOURS, MOST_LOOKS, PAIRS = 10_000, 5_000, 200
_DRAWS = 64  # draws at once where each needs a row per image
_SHARED = 16  # pairs of sides whose results are remembered: one, and those of the floor's draws
Random = np.random.Generator
Figured = Callable[[Side, Side, int, Random], Interval]


@dataclass(frozen=True)
class Measure:
    """A named measure. `of(real, synthetic, draws, random)`: figure and interval; no draws: the figure alone.

    `most`: images a side that it takes; more are a subsample of whole patients. `least`: fewer cannot be measured.
    `floor_draws`: draws of other patients behind its floor, at most.
    """

    name: str
    encoder: str | None
    of: Figured
    most: int | None = None
    least: int = 2
    floor_draws: int = 10


def of_encoder(encoder: str, suffix: str = "") -> tuple[Measure, ...]:
    """Return the measures on an encoder's features."""

    def fitted(real: Side, synthetic: Side, random: Random, interval: bool) -> Distances:
        return distances(real.sample(encoder), synthetic.sample(encoder), random, interval=interval)

    whole, alone = _Shared(partial(fitted, interval=True)), _Shared(partial(fitted, interval=False))
    near = _Shared(lambda real, synthetic, _: neighbours(real.features[encoder], synthetic.features[encoder]))

    def named(name: str, of: Figured, most: int | None = None, least: int = 2) -> Measure:
        return Measure(name + suffix, encoder, of, most, least)

    return (
        named("kid", _kernel(encoder, cubic), MOST),
        named("frechet", _frechet("frechet", whole, alone)),
        named("frechet_corrected", _frechet("frechet_corrected", whole, alone), least=8),
        named("cmmd", _kernel(encoder, gaussian), MOST),
        *(
            named(name, _neighbours(near, name), MOST_NEIGHBOURS, NEIGHBOURS + 1)
            for name in ("precision", "recall", "density", "coverage")
        ),
        named("two_sample_auc", _two_sample(encoder), MOST_SEEN, 2 * FOLDS),
        named("feature_diversity", _pairs(lambda side, pairs: feature_distance(side.features[encoder], pairs))),
    )


def of_looks() -> tuple[Measure, ...]:
    """Return the distances of what images look like, number by number, in standard deviations of the real ones."""
    return tuple(Measure(f"look.{name}", None, _look(i), MOST_LOOKS) for i, name in enumerate(LOOKS))


def of_lpips(encoder: Encoder) -> Measure:
    """Return LPIPS diversity by a `fidelity.lpips.LpipsEncoder`; pairs are dear, so the floor is of one draw."""
    of = _pairs(lambda side, pairs: lpips(encoder, side.images, pairs))
    return Measure("lpips_diversity", encoder.name, of, floor_draws=1)


MS_SSIM = Measure("ms_ssim", None, lambda r, s, d, rng: _pairs(lambda side, p: ms_ssim(side.images, p))(r, s, d, rng))


def _repeated(_real: Side, synthetic: Side, draws: int, random: Random) -> Interval:
    """Of the synthetic side alone; its floor is therefore the same of real images."""
    return _mean(repeated(synthetic.images, synthetic.clusters).astype(np.float64), synthetic, draws, random)


REPEATED = Measure("repeated_fraction", None, _repeated, MOST_NEIGHBOURS)


def _kernel(encoder: str, kernel: Kernel) -> Figured:
    def of(real: Side, synthetic: Side, draws: int, random: Random) -> Interval:
        distance = Mmd(real.sample(encoder), synthetic.sample(encoder), kernel)
        if not draws:
            return _alone(distance.value())
        weights = [patient_draws(side.clusters, draws, random) for side in (real, synthetic)]
        return centred_interval(distance.value(), distance.drawn(*weights))

    return of


def _alone(value: float) -> Interval:
    return Interval(value, float("nan"), float("nan"))


def _mean(values: Floats, side: Side, draws: int, random: Random) -> Interval:
    """Return the mean of a number per image of a side."""
    return mean_interval(values, side.clusters, draws, random) if draws else _alone(float(values.mean()))


class _Shared:
    """Remembers the last results, so that measures of one pair of sides (precision and recall, say) compute it once.

    Sides are told apart by identity: `Side.subset` returns the same object for the same draw.
    """

    def __init__(self, of: Callable[[Side, Side, Random], Any]) -> None:
        self._of = of
        self._found: dict[tuple[int, int], tuple[Side, Side, Any]] = {}  # the sides are held: an id is theirs alone

    def __call__(self, real: Side, synthetic: Side, random: Random) -> Any:
        key = (id(real), id(synthetic))
        if key not in self._found:
            while len(self._found) >= _SHARED:
                self._found.pop(next(iter(self._found)))
            self._found[key] = (real, synthetic, self._of(real, synthetic, random))
        return self._found[key][2]


def _frechet(name: str, whole: _Shared, alone: _Shared) -> Figured:
    """The plain distance or the corrected one; both come of one fit, without an interval of a cheaper one."""

    def of(real: Side, synthetic: Side, draws: int, random: Random) -> Interval:
        found: Distances = (whole if draws else alone)(real, synthetic, random)
        if name == "frechet_corrected":
            return found.corrected
        # The interval of the figure at these numbers: its width is that of the corrected one.
        reach = (found.corrected.high - found.corrected.low) / 2
        return Interval(found.plain, max(0.0, found.plain - reach), found.plain + reach)

    return of


def _two_sample(encoder: str) -> Figured:
    def of(real: Side, synthetic: Side, draws: int, random: Random) -> Interval:
        if min(len(np.unique(side.clusters)) for side in (real, synthetic)) < FOLDS:
            return _alone(float("nan"))
        found = two_sample(real.sample(encoder), synthetic.sample(encoder), random)
        if not draws:
            return _alone(found.value())
        weights = [patient_draws(side.clusters, draws, random) for side in (real, synthetic)]
        return percentile_interval(found.value(), found.drawn(*weights))

    return of


def _neighbours(near: _Shared, name: str) -> Figured:
    def of(real: Side, synthetic: Side, draws: int, random: Random) -> Interval:
        shares: Floats = getattr(near(real, synthetic, random), name)
        side = synthetic if name in ("precision", "density") else real
        return _mean(shares, side, draws, random)

    return of


def _pairs(of_pairs: Callable[[Side, Array], Floats]) -> Figured:
    """Of the synthetic side alone; its floor is therefore the same of real images."""

    def of(_real: Side, synthetic: Side, draws: int, random: Random) -> Interval:
        pairs = draw_pairs(synthetic.planes, synthetic.clusters, PAIRS, random)
        if not len(pairs):
            return _alone(float("nan"))
        values = of_pairs(synthetic, pairs)
        if not draws:
            return _alone(float(values.mean()))
        weights = patient_draws(synthetic.clusters, draws, random)
        both = weights[:, pairs[:, 0]] * weights[:, pairs[:, 1]]  # a pair comes as often as both its sources do
        known = both.sum(1) > 0
        drawn = (both[known] @ values) / both[known].sum(1)
        return centred_interval(float(values.mean()), drawn)

    return of


def _look(number: int) -> Figured:
    def of(real: Side, synthetic: Side, draws: int, random: Random) -> Interval:
        columns = [side.looks[:, number] for side in (real, synthetic)]
        known = [np.isfinite(c) for c in columns]
        if min(int(k.sum()) for k in known) < 2:
            return _alone(float("nan"))
        x, y = (c[k] for c, k in zip(columns, known, strict=True))
        unit = max(float(x.std()), 1e-6 * max(1.0, float(np.abs(x).max())))
        value = float(wasserstein_distance(x, y)) / unit
        if not draws:
            return _alone(value)
        weights = [
            patient_draws(side.clusters, draws, random)[:, k] for side, k in zip((real, synthetic), known, strict=True)
        ]
        found = centred_interval(value, drawn_wasserstein(x, y, weights[0], weights[1]) / unit)
        return Interval(found.value, max(0.0, found.low), found.high)

    return of


def drawn_wasserstein(x: Floats, y: Floats, u: Array, v: Array) -> Floats:
    """Return the 1-Wasserstein distance of each draw, float64 [B], where x[i] counts u[b, i] times, y[j] v[b, j] times.

    Values are sorted once for all draws; NaN where a draw is empty.
    """
    both = np.concatenate([x, y])
    order = np.argsort(both, kind="stable")
    steps = np.diff(both[order])
    parts = []
    for start in range(0, len(u), _DRAWS):
        rows = slice(start, start + _DRAWS)
        weights = [np.concatenate(w, axis=1)[:, order] for w in (
            (u[rows], np.zeros_like(v[rows])), (np.zeros_like(u[rows]), v[rows]))]  # fmt: skip
        with np.errstate(invalid="ignore"):
            levels = [w.cumsum(1)[:, :-1] / w.sum(1, keepdims=True) for w in weights]
        parts.append(np.abs(levels[0] - levels[1]) @ steps)
    return np.concatenate(parts)
