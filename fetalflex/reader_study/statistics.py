"""What the answers say: accuracy, ROC, distributions, agreement between readers and with oneself.

Repeats count for the agreement with oneself alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan
from typing import Any

import numpy as np
from scipy.stats import binomtest, mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from fetalflex import rng

Row = Mapping[str, Any]
LEVELS = (1, 2, 3, 4, 5)
_DRAWS = 2000


@dataclass(frozen=True)
class Share:
    """A share of `n` with its exact 95 % interval (Clopper and Pearson, Biometrika 1934;26:404-13); `p` against 1/2."""

    hits: int
    n: int
    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Agreement:
    """A kappa with its 95 % interval (NaN where it cannot be computed), over `n` images; `raw`: the share of equals."""

    kappa: float
    low: float
    high: float
    raw: float
    n: int


def share(hits: int, n: int) -> Share:
    """Return a share with its exact interval and two-sided p against one half; NaN of nothing."""
    if n == 0:
        return Share(0, 0, nan, nan, nan, nan)
    found = binomtest(hits, n, 0.5)
    interval = found.proportion_ci(0.95, "exact")
    return Share(hits, n, hits / n, float(interval.low), float(interval.high), float(found.pvalue))


def firsts(rows: Sequence[Row]) -> list[Row]:
    """Return the answers to first showings."""
    return [r for r in rows if not r["again"]]


def accuracy(rows: Sequence[Row]) -> Share:
    """Return how often first showings were called what they are; of several readers, pooled."""
    first = firsts(rows)
    return share(sum(r["verdict"] == r["truth"] for r in first), len(first))


def accuracy_interval(rows: Sequence[Row], seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of the pooled accuracy that counts images and readers as drawn: both are resampled.

    Answers of several readers on one image are no independent trials, so the exact interval of all would be too narrow.
    Source: two-way bootstrap, Owen, Ann Appl Stat 2007;1:386-411.
    """
    first = firsts(rows)
    readers, images = sorted({r["reader"] for r in first}), sorted({r["image"] for r in first})
    if not first:
        return nan, nan
    hits, there = np.zeros((len(readers), len(images))), np.zeros((len(readers), len(images)))
    for r in first:
        place = readers.index(r["reader"]), images.index(r["image"])
        hits[place], there[place] = r["verdict"] == r["truth"], 1
    random, found = rng.generator(seed, "reader study", "bootstrap"), []
    for _ in range(_DRAWS):
        weight = np.outer(
            np.bincount(random.integers(0, len(readers), len(readers)), minlength=len(readers)),
            np.bincount(random.integers(0, len(images), len(images)), minlength=len(images)),
        )
        total = (weight * there).sum()
        if total:
            found.append((weight * hits).sum() / total)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def roc(rows: Sequence[Row]) -> tuple[list[float], list[float], float]:
    """Return false and true positive rates and the area under them: how well the realism tells real from synthetic."""
    first = firsts(rows)
    truth = [r["truth"] == "real" for r in first]
    if len(set(truth)) < 2:
        return [0.0, 1.0], [0.0, 1.0], nan
    score = [r["realism"] for r in first]
    false, true, _ = roc_curve(truth, score, drop_intermediate=False)
    return [float(v) for v in false], [float(v) for v in true], float(roc_auc_score(truth, score))


def likert(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return how often each level of realism was given, to real and to synthetic images."""
    first = firsts(rows)
    return {
        t: [sum(r["truth"] == t and r["realism"] == level for r in first) for level in LEVELS]
        for t in ("real", "synthetic")
    }


def likert_p(rows: Sequence[Row]) -> float:
    """Return p of the Mann-Whitney test (two-sided, ties corrected) that both kinds get equal realism."""
    kinds = [[r["realism"] for r in firsts(rows) if r["truth"] == t] for t in ("real", "synthetic")]
    return float(mannwhitneyu(*kinds).pvalue) if all(kinds) else nan


def fleiss(rows: Sequence[Row], what: str) -> Agreement:
    """Return Fleiss' kappa of all readers over the images that all of them answered. No interval: it has none here.

    `what`: the column, `verdict` or `realism`. Source: Fleiss, Psychol Bull 1971;76:378-82.
    """
    table = _common(rows, what)
    if table.shape[1] < 2 or not len(table):
        return Agreement(nan, nan, nan, nan, len(table))
    counts, _ = aggregate_raters(table)
    raw = float(np.mean([_pairs_equal(row) for row in table]))
    return Agreement(_finite(fleiss_kappa(counts)), nan, nan, raw, len(table))


def cohen(rows: Sequence[Row], what: str) -> dict[tuple[str, str], Agreement]:
    """Return Cohen's kappa of every two readers (weighted linearly for the realism).

    Source: Cohen, Educ Psychol Meas 1960;20:37-46; Psychol Bull 1968;70:213-20.
    """
    by_reader = _by_reader(rows, what)
    found = {}
    for one, other in combinations(sorted(by_reader), 2):
        shared = sorted(by_reader[one].keys() & by_reader[other].keys())
        found[one, other] = _kappa([by_reader[one][i] for i in shared], [by_reader[other][i] for i in shared], what)
    return found


def intra(rows: Sequence[Row], what: str) -> dict[str, Agreement]:
    """Return each reader's agreement with themselves, over the images that were shown twice."""
    found = {}
    for reader in sorted({r["reader"] for r in rows}):
        own = [r for r in rows if r["reader"] == reader]
        first = {r["image"]: r[what] for r in own if not r["again"]}
        pairs = [(first[r["image"]], r[what]) for r in own if r["again"] and r["image"] in first]
        found[reader] = _kappa([a for a, _ in pairs], [b for _, b in pairs], what)
    return found


def by(rows: Sequence[Row], column: str) -> dict[str, Share]:
    """Return the accuracy by plane, center, reader, or truth."""
    return {str(v): accuracy([r for r in rows if r[column] == v]) for v in sorted({r[column] for r in rows})}


def _by_reader(rows: Sequence[Row], what: str) -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {}
    for r in firsts(rows):
        found.setdefault(r["reader"], {})[r["image"]] = r[what]
    return found


def _common(rows: Sequence[Row], what: str) -> np.ndarray[Any, Any]:
    """Return the answers [images, readers] to images that all readers have answered."""
    by_reader = _by_reader(rows, what)
    shared = sorted(set.intersection(*(set(v) for v in by_reader.values()))) if by_reader else []
    return np.array([[by_reader[reader][i] for reader in sorted(by_reader)] for i in shared]).reshape(
        len(shared), len(by_reader)
    )


def _pairs_equal(row: Sequence[Any]) -> float:
    return float(np.mean([a == b for a, b in combinations(row, 2)]))


def _kappa(one: Sequence[Any], other: Sequence[Any], what: str) -> Agreement:
    if not one:
        return Agreement(nan, nan, nan, nan, 0)
    levels: Sequence[Any] = LEVELS if what == "realism" else sorted({*one, *other})
    raw = float(np.mean([a == b for a, b in zip(one, other, strict=True)]))
    table = np.zeros((len(levels), len(levels)))
    for a, b in zip(one, other, strict=True):
        table[levels.index(a), levels.index(b)] += 1
    if (table.sum(0) > 0).sum() < 2 and (table.sum(1) > 0).sum() < 2:
        return Agreement(nan, nan, nan, raw, len(one))  # all said the same: nothing beyond chance can be told
    with np.errstate(divide="ignore", invalid="ignore"):
        found = cohens_kappa(table, wt="linear" if what == "realism" else None)
    # The interval is a normal one: near full agreement it runs beyond 1, which no kappa does.
    low, high = (float(np.clip(_finite(bound), -1, 1)) for bound in (found.kappa_low, found.kappa_upp))
    return Agreement(_finite(found.kappa), low, high, raw, len(one))


def _finite(value: Any) -> float:
    number = float(value)
    return nan if isnan(number) or np.isinf(number) else number
