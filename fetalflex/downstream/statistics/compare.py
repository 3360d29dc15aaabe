"""From the metrics of two arms to a verdict: paired bootstrap over patients and seeds, corrected for their number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fetalflex.quality.bootstrap import Floats, Interval, patient_draws, percentile_interval

HELPS, HARMS, NO_DIFFERENCE = "helps", "harms", "no difference shown"
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Draws:
    """Bootstrap draws; row 0 is the sample itself.

    images: how often each test image counts, [draws, N]; repeats: how often each training counts, [draws, repeats].
    """

    images: npt.NDArray[np.int64]
    repeats: npt.NDArray[np.int64]


def draw(patients: npt.NDArray[np.str_], repeats: int, bootstrap: int, rng: np.random.Generator) -> Draws:
    """Draw patients and trainings with replacement, together: both are samples of what could have been.

    Source: Davison & Hinkley 1997, section 3.8, for the two levels. Raises: TooFewCasesError without images.
    """
    whole = np.ones((1, len(patients)), np.int64)
    images = np.concatenate([whole, patient_draws(patients, bootstrap, rng)])
    drawn = rng.multinomial(repeats, np.full(repeats, 1 / repeats), size=bootstrap)
    return Draws(images, np.concatenate([np.ones((1, repeats), np.int64), drawn]).astype(np.int64))


def averaged(measure: Callable[[int, npt.NDArray[np.int64]], Floats], draws: Draws) -> Floats:
    """Return the mean over the drawn trainings of `measure(training, image weights)`: [draws]."""
    values = np.stack([measure(i, draws.images) for i in range(draws.repeats.shape[1])], axis=1)
    known = np.isfinite(values) * draws.repeats
    total = known.sum(1)
    mean = (np.where(known > 0, values, 0) * known).sum(1) / np.maximum(total, 1)
    return np.where(total > 0, mean, np.nan)


def interval(values: Floats) -> Interval:
    """Return the estimate (row 0) with its 95 % interval over the draws."""
    return percentile_interval(float(values[0]), values[1:])


def two_sided(values: Floats) -> float:
    """Return the two-sided p of a difference being zero: twice the share of draws on its other side, one added.

    Source: Davison & Hinkley 1997, equation 4.11.
    """
    finite = values[1:][np.isfinite(values[1:])]
    if not len(finite) or not np.isfinite(values[0]):
        return 1.0
    other = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    return float(min(1.0, 2 * (other + 1) / (len(finite) + 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in their order.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6.
    """
    order, count = np.argsort(p, kind="stable"), len(p)
    corrected = np.maximum.accumulate([min(1.0, (count - i) * p[k]) for i, k in enumerate(order)])
    found = np.empty(count)
    found[order] = corrected
    return [float(v) for v in found]


def verdict_of(difference: float, corrected_p: float) -> str:
    """Return what a difference and its corrected p allow to say."""
    if corrected_p >= ALPHA or difference == 0:
        return NO_DIFFERENCE
    return HELPS if difference > 0 else HARMS
