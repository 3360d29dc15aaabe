"""Bootstrap over patients: images of one patient are no independent evidence, so patients are drawn, not images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.errors import TooFewCasesError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def cluster_numbers(clusters: Array) -> npt.NDArray[np.int64]:
    """Return for each image the number of its patient, 0 .. patients - 1."""
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64).reshape(-1)


def patient_draws(clusters: Array, draws: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw patients with replacement; return how often each image's patient was drawn, int64 [draws, images].

    Source: Davison & Hinkley, Bootstrap Methods and their Application (1997), section 3.8 (cluster bootstrap).
    Raises: TooFewCasesError where there is no image.
    """
    numbers = cluster_numbers(clusters)
    if not len(numbers):
        raise TooFewCasesError("bootstrap: no image to draw from; expected at least one")
    count = int(numbers.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return weights[:, numbers].astype(np.int64)


def percentile_interval(value: float, draws: Floats) -> Interval:
    """Return the percentile interval of bootstrap draws (those that are not finite are left out)."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def centred_interval(value: float, draws: Floats) -> Interval:
    """Return the percentile interval moved so that the draws' mean is the estimate.

    A resample holds fewer distinct images than the sample, and distances such as Fréchet's grow when images are
    fewer: the raw percentiles would lie above the estimate itself. The spread is kept, the offset is taken out.
    """
    raw = percentile_interval(value, draws)
    shift = value - float(np.mean(draws[np.isfinite(draws)])) if np.isfinite(draws).any() else 0.0
    return Interval(value, raw.low + shift, raw.high + shift)


def mean_interval(values: Floats, clusters: Array, draws: int, rng: np.random.Generator) -> Interval:
    """Return the mean over images (NaN left out) with its interval over patients; all NaN where nothing is finite."""
    known = np.isfinite(values)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    values, clusters = values[known].astype(np.float64), clusters[known]
    weights = patient_draws(clusters, draws, rng)
    return percentile_interval(float(values.mean()), (weights @ values) / weights.sum(axis=1))


def median_interval(values: Floats, clusters: Array, draws: int, rng: np.random.Generator) -> Interval:
    """Return the median over images (NaN left out) with its interval over patients; all NaN where nothing is finite."""
    known = np.isfinite(values)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    values, clusters = values[known].astype(np.float64), clusters[known]
    medians = [float(np.median(np.repeat(values, often))) for often in patient_draws(clusters, draws, rng)]
    return percentile_interval(float(np.median(values)), np.array(medians))
