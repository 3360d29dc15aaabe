"""How many images and readers would be needed: exact tests against one half, and answers that hang together."""

from dataclasses import dataclass
from math import ceil, nan

import numpy as np
from scipy.stats import binom

from fetalflex.reader_study.statistics import Row, firsts

ALPHA, POWER = 0.05, 0.80
MOST = 20000


@dataclass(frozen=True)
class Need:
    """Images that each of `readers` would have to read to find an accuracy other than one half."""

    accuracy: float
    readers: int
    images: int


def exact_power(accuracy: float, n: int) -> float:
    """Return the power of the two-sided exact binomial test of n answers against one half, at 5 %."""
    low = int(binom.ppf(ALPHA / 2, n, 0.5))
    while low >= 0 and binom.cdf(low, n, 0.5) > ALPHA / 2:
        low -= 1
    return float(binom.cdf(low, n, accuracy) + binom.sf(n - low - 1, n, accuracy)) if low >= 0 else 0.0


def answers_needed(accuracy: float) -> int:
    """Return the fewest independent answers from which on the power stays at 80 % or above; 0 where none is enough."""
    if abs(accuracy - 0.5) < 1e-6:
        return 0
    low, high = 4, 8
    while exact_power(accuracy, high) < POWER:
        low, high = high, high * 2
        if high > MOST:
            return 0
    # The power of an exact test is a saw: the answer is one above the last tooth that falls below.
    below = [n for n in range(low, min(high + 40, MOST)) if exact_power(accuracy, n) < POWER]
    return (below[-1] if below else low) + 1


def images_needed(accuracy: float, readers: int, correlation: float) -> Need:
    """Return how many images each reader would have to read, where answers on one image correlate so much.

    The design effect of r answers on one image is 1 + (r - 1) rho. Source: Kish, Survey Sampling, Wiley 1965.
    """
    effect = 1 + (readers - 1) * max(0.0, correlation)
    return Need(accuracy, readers, ceil(answers_needed(accuracy) * effect / readers))


def correlation(rows: list[Row]) -> float:
    """Return the correlation of right answers on one image between readers (the intraclass correlation, one way).

    NaN where fewer than two readers have answered. Source: Fleiss, Psychol Bull 1979;86:420-8, ICC(1,1).
    """
    first = firsts(rows)
    images = sorted({r["image"] for r in first})
    groups = [[float(r["verdict"] == r["truth"]) for r in first if r["image"] == i] for i in images]
    groups = [g for g in groups if len(g) > 1]
    if len(groups) < 2:
        return nan
    k = float(np.mean([len(g) for g in groups]))
    grand = float(np.mean([v for g in groups for v in g]))
    between = sum(len(g) * (np.mean(g) - grand) ** 2 for g in groups) / (len(groups) - 1)
    within = sum((v - np.mean(g)) ** 2 for g in groups for v in g) / sum(len(g) - 1 for g in groups)
    total = between + (k - 1) * within
    return float((between - within) / total) if total > 0 else nan
