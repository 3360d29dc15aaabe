"""Intervals for few cases, where a bootstrap is too narrow: of a share, and of an AUC."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta

from fetalflex.quality.bootstrap import LEVEL, Interval

_EDGE = 1e-4
_Z = 1.959963984540054  # of LEVEL, two-sided


def share_interval(hits: float, n: int) -> Interval:
    """Return hits / n with its exact interval; `hits` may be a mean over trainings, so no whole number.

    Source: Clopper & Pearson 1934, Biometrika 26; for n = 0 all is NaN.
    """
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    tail = (1 - LEVEL) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits >= n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return Interval(hits / n, low, high)


def auc_interval(area: float, positive: int, negative: int) -> Interval:
    """Return an AUC with the interval of all true AUCs that could well have given it.

    Source: Newcombe 2006, Statistics in Medicine 25, method 5: the score interval with Hanley and McNeil's variance,
    both sample sizes replaced by their mean. NaN without cases.
    """
    if not np.isfinite(area) or not positive or not negative:
        return Interval(float("nan"), float("nan"), float("nan"))
    spare = (positive + negative) / 2 - 1

    def beyond(true: float) -> float:
        spread = 1 + spare * (1 - true) / (2 - true) + spare * true / (1 + true)
        return (area - true) ** 2 - _Z**2 * true * (1 - true) * spread / (positive * negative)

    # At an area of 0 or 1 the equation is zero there, too: the other root is looked for from just beside it.
    low = 0.0 if area < _EDGE else float(brentq(beyond, 1e-12, min(area, 1 - 1e-9)))
    high = 1.0 if area > 1 - _EDGE else float(brentq(beyond, max(area, 1e-9), 1 - 1e-12))
    return Interval(area, low, high)


def wider(one: Interval, other: Interval) -> Interval:
    """Return the first estimate with the outer limits of both."""
    return Interval(one.value, float(np.fmin(one.low, other.low)), float(np.fmax(one.high, other.high)))
