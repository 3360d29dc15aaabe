"""The form of `reports/quality.json` and of the flat `reports/metrics.json`: the one place that says it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from fetalflex.quality.anomalies import AnomalyControl
from fetalflex.quality.control.overlap import OVERALL, Control
from fetalflex.quality.fidelity.measure import Figure
from fetalflex.quality.privacy.report import Privacy

HEADLINE = ("kid", "frechet")
_WHERE = ("plane", "center", "anomaly")


@dataclass(frozen=True)
class Parts:
    """What a quality report is made of. `encoders`: the first gives the headline figures."""

    encoders: Sequence[str]
    figures: Sequence[Figure] = ()
    control: Sequence[Control] = ()
    anomalies: Sequence[AnomalyControl] = ()
    privacy: Privacy | None = None
    more: Sequence[Figure] = ()


def quality_report(parts: Parts) -> dict[str, Any]:
    """Return the quality report as JSON values (numbers that are not finite become null).

    Keys: encoder, encoders; metrics: every figure as {name, value, low, high, n, floor, and where they apply encoder,
    plane, center, anomaly, warning}; fidelity: KID and Fréchet distance over all images, with n_real, n_synthetic,
    floor_n, warning; control: [{structure, value, low, high, n, real_value, real_low, real_high, n_real}], `overall`
    last; anomalies: [the fields of `quality.anomalies.AnomalyControl`]; privacy: the fields of
    `quality.privacy.report.Privacy`, or {} where it was not measured.
    """
    report: dict[str, Any] = {
        "encoder": parts.encoders[0],
        "encoders": list(parts.encoders),
        "metrics": [_metric(figure) for figure in all_figures(parts)],
        "fidelity": [f for f in parts.figures if f.name in HEADLINE and not any(getattr(f, w) for w in _WHERE)],
        "control": list(parts.control),
        "anomalies": list(parts.anomalies),
        "privacy": parts.privacy or {},
    }
    return {key: plain(value) for key, value in report.items()}


def all_figures(parts: Parts) -> list[Figure]:
    """Return every figure of a report in one form."""
    privacy = [] if parts.privacy is None else _privacy(parts.privacy)
    return [*parts.figures, *_control(parts.control), *parts.more, *_anomalies(parts.anomalies), *privacy]


def flat_metrics(report: dict[str, Any]) -> dict[str, Any]:
    """Return a quality report's figures as nested numbers for `dvc metrics`: {all: {name: value}, plane: {name: ...}}.

    What was not measured is left out: DVC compares numbers.
    """
    flat: dict[str, Any] = {}
    for row in report["metrics"]:
        if row["value"] is None:
            continue
        where = next((w for w in _WHERE if w in row), None)
        place = flat.setdefault("all", {}) if where is None else flat.setdefault(where, {}).setdefault(row[where], {})
        place[row["name"]] = round(row["value"], 6)
    return flat


def _metric(figure: Figure) -> dict[str, Any]:
    keys = ("name", "value", "low", "high", "n", "floor")
    told = {key: getattr(figure, key) for key in keys}
    return told | {key: v for key in ("encoder", *_WHERE, "warning") if (v := getattr(figure, key))}


def simple(
    name: str,
    value: float,
    interval: tuple[float, float],
    n: int,
    floor: float | None,
    anomaly: str | None = None,
) -> Figure:
    """Return a figure of one set of n images."""
    known = floor if floor is None or math.isfinite(floor) else None
    return Figure(name, value, *interval, n, 0, n, known, None, anomaly=anomaly)


def _control(rows: Sequence[Control]) -> list[Figure]:
    return [
        simple(
            "dice" if row.structure == OVERALL else f"dice.{row.structure}",
            row.value,
            (row.low, row.high),
            row.n,
            row.real_value,
        )
        for row in rows
    ]


def _anomalies(rows: Iterable[AnomalyControl]) -> list[Figure]:
    nothing = (float("nan"), float("nan"))
    found: list[Figure] = []
    for row in rows:
        ends = (row.found.low, row.found.high)
        found.append(simple("found", row.found.value, ends, row.n, row.found_in_normal, row.anomaly))
        error = simple(
            "severity_error", row.absolute_error, nothing, row.n_measured, row.judge_absolute_error, row.anomaly
        )
        found += [] if row.unit == "present" else [error]
    return found


def _privacy(privacy: Privacy) -> list[Figure]:
    strongest = max(privacy.membership, key=lambda a: a.auc)
    near, nothing = (privacy.near_copy_low, privacy.near_copy_high), (float("nan"), float("nan"))
    plain_ones = privacy.canaries[0]
    alarms = (plain_ones.false_alarms_low, plain_ones.false_alarms_high)
    return [
        simple("near_copy_fraction", privacy.near_copy_fraction, near, privacy.n, privacy.false_alarms),
        *(simple(f"canary_recall.{c.alteration}", c.recall, (c.low, c.high), c.n, None) for c in privacy.canaries),
        *(
            simple(
                f"false_alarms.{c.alteration}",
                c.false_alarms,
                (c.false_alarms_low, c.false_alarms_high),
                c.n_held_out,
                None,
            )
            for c in privacy.canaries
        ),
        simple("canary_recall", privacy.canary_recall, nothing, sum(c.n for c in privacy.canaries), None),
        simple("false_alarms", privacy.false_alarms, alarms, plain_ones.n_held_out, None),
        simple("most_exposed", privacy.exposure.most_images / max(privacy.n, 1), nothing, privacy.n, None),
        simple("membership_auc", strongest.auc, (strongest.low, strongest.high), strongest.n_members, 0.5),
    ]


def plain(value: Any) -> Any:
    """Return dataclasses and containers as JSON values; NaN and infinity become None, as JSON has neither."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
