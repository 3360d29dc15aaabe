"""Rows of the report: one metric of one arm of one model, and what it gains over the arm that it is compared with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetalflex.downstream.protocol import CLASSIC, MIXED, REAL
from fetalflex.downstream.statistics.compare import Draws, averaged, holm, interval, two_sided, verdict_of
from fetalflex.quality.bootstrap import Floats, Interval

Row = dict[str, Any]
Measure = Callable[[int, Any], Floats]
NO_COMPARISON: Row = {
    "against": None, "difference": None, "difference_low": None, "difference_high": None, "p": None,
    "p_corrected": None, "verdict": None,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Arms:
    """All arms of one model on one test set: arm label -> metric -> measure(training, image weights) -> [draws].

    `shape`: what all rows share (model, task, test, n, seeds). The arm label is the arm, with the ratio where it is not
    the main one. `widen`: makes an interval of few cases as wide as it has to be.
    """

    shape: Row
    measures: Mapping[str, Mapping[str, Measure]]
    draws: Draws
    widen: Callable[[str, Interval], Interval] = lambda _metric, found: found


def rows_of(arms: Arms, main: str | None) -> list[Row]:
    """Return a row per arm and metric, each compared with `real`; the synthetic arm also with the classic one.

    `main`: the metric that is primary on this test, if any.
    """
    values = {
        arm: {name: averaged(measure, arms.draws) for name, measure in measures.items()}
        for arm, measures in arms.measures.items()
    }
    rows = []
    for arm, metrics in values.items():
        for metric, found in metrics.items():
            told = arms.widen(metric, interval(found))
            row = arms.shape | {"arm": arm, "metric": metric, "value": told.value, "low": told.low, "high": told.high}
            rivals: list[str | None] = [
                r for r in (REAL, CLASSIC) if r in values and r != arm and (r == REAL or arm == MIXED)
            ]
            for rival in rivals or [None]:
                compared = NO_COMPARISON if rival is None else _compared(rival, found - values[rival][metric])
                primary = metric == main and arm == MIXED and rival == REAL
                rows.append(row | compared | {"primary": primary})
    return rows


def settle(rows: Sequence[Row]) -> list[Row]:
    """Return rows with verdicts: p corrected over the primary comparisons, and over each other kind by itself.

    Of a kind are rows of equal arm, rival, metric and test: they differ in the model alone.
    """
    families: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        if row["p"] is not None:
            kind = (
                ("primary",) if row["primary"] else tuple(row[k] for k in ("task", "test", "arm", "against", "metric"))
            )
            families.setdefault(kind, []).append(i)
    settled = [dict(row) for row in rows]
    for members in families.values():
        for i, p in zip(members, holm([rows[i]["p"] for i in members]), strict=True):
            better = -rows[i]["difference"] if rows[i]["metric"] == "ece" else rows[i]["difference"]
            settled[i] |= {"p_corrected": p, "verdict": verdict_of(better, p)}
    return settled


def _compared(rival: str, gain: Floats) -> Row:
    found = interval(gain)
    return NO_COMPARISON | {
        "against": rival, "difference": found.value, "difference_low": found.low, "difference_high": found.high,
        "p": two_sided(gain),
    }  # fmt: skip


def mean_matrix(matrices: Sequence[Any]) -> list[list[int]]:
    """Return confusion matrices added up over trainings."""
    total: list[list[int]] = np.sum(matrices, axis=0).astype(int).tolist()
    return total
