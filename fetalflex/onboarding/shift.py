"""How far a new center lies from those already there: simple statistics, with their sample sizes.

Differences are told as medians with quartiles and Cliff's delta: the chance that a new image has the larger value,
minus the chance that it has the smaller one (0: alike; 1 or -1: no overlap).
Source: Cliff, Dominance statistics, Psychological Bulletin 114 (1993), equation 1; limits for small, medium and large
after Romano et al. (2006).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
LIMITS = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"), (2.0, "large"))
FEW = 20  # below this number of images a difference says little
MEASURES: Mapping[str, tuple[str, str]] = {
    "level": ("Grey level of the tissue", "0 to 255"),
    "spacing_mm": ("Spacing", "mm per pixel"),
    "height": ("Height", "px"),
    "width": ("Width", "px"),
    "sector": ("Share of the frame that is lit", "%"),
}


@dataclass(frozen=True)
class Spread:
    """A measure over one center's frames: how many have it, its quartiles, and values to draw (at most 60)."""

    center: str
    count: int
    low: float
    median: float
    high: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Shift:
    """One measure: the new center against all others together. `delta` is None where a side has no value."""

    title: str
    unit: str
    new: Spread | None
    others: tuple[Spread, ...]
    delta: float | None
    size: str
    few: bool


def compare(new: Sequence[Mapping[str, Any]], others: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Shift]:
    """Return every measure of the new frames against those of the other centers (center -> rows)."""
    result = []
    for name, (title, unit) in MEASURES.items():
        mine = _values(new, name)
        theirs = {center: _values(rows, name) for center, rows in others.items()}
        pooled = np.concatenate([*theirs.values(), np.zeros(0)])
        delta = cliffs_delta(mine, pooled) if mine.size and pooled.size else None
        size = "" if delta is None else next(word for limit, word in LIMITS if abs(delta) < limit)
        spreads = tuple(s for c, v in theirs.items() if (s := _spread(c, v)) is not None)
        few = bool(pooled.size) and min(mine.size, pooled.size) < FEW
        result.append(Shift(title, unit, _spread("new", mine), spreads, delta, size, few))
    return result


def count_planes(
    new: Sequence[Mapping[str, Any]], others: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, int]]:
    """Return plane -> (center or `new` -> frames), the commonest of the new center first."""
    counts = {"new": Counter(r["plane"] for r in new)}
    counts |= {center: Counter(r["plane"] for r in rows) for center, rows in others.items()}
    planes = dict.fromkeys(p for c in counts.values() for p, _ in c.most_common())
    return {plane: {center: c[plane] for center, c in counts.items()} for plane in planes}


def cliffs_delta(a: Array, b: Array) -> float:
    """Return P(a > b) - P(a < b) over all pairs.

    >>> cliffs_delta(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    0.75
    """
    ranked = np.sort(b)
    below = np.searchsorted(ranked, a, side="left")
    above = ranked.size - np.searchsorted(ranked, a, side="right")
    return float((below - above).sum() / (a.size * b.size))


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> Array:
    return np.array([float(r[name]) for r in rows if r.get(name) is not None], np.float64)


def _spread(center: str, values: Array) -> Spread | None:
    if not values.size:
        return None
    low, median, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
    ordered = np.sort(values)
    shown = ordered[np.unique(np.linspace(0, ordered.size - 1, min(60, ordered.size)).astype(int))]
    return Spread(center, int(values.size), low, median, high, tuple(float(v) for v in shown))
