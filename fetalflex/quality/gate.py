"""The gate: measured figures against the thresholds of `params.yaml`, per release and per image, each with its reason.

A figure that is missing fails its criterion: nothing passes because it was not measured. Only of an image whose layout
asks for no structure is agreement with it no question. A release without one accepted image fails whatever its
thresholds. New thresholds need no new scores.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fetalflex.errors import ParameterError
from fetalflex.params import Criterion, Gate
from fetalflex.quality.gate_metrics import DIFFERENCES, IMAGE_METRICS, RATIOS, RELEASE_METRICS, is_release_metric

if TYPE_CHECKING:
    import polars as pl

OF_LAYOUT = ("dice",)  # judged of images alone whose layout asks for something
Report = Mapping[str, Any]
Rows = Iterable[Mapping[str, Any]]


def decide(quality: Report, downstream: Report, scores: "pl.DataFrame | Rows", gate: Gate) -> dict[str, Any]:
    """Return the verdict as JSON values.

    {passed, criteria: [{metric, value, bound, passed, reason, would_pass_if}], images: {accepted: [image_id],
    rejected: [{image_id, reason}]}}; bound is text such as `<= 0.2`. `quality` and `downstream` are the reports
    (empty where a stage was not run), `scores` rows of the schema Scores. A release without criteria passes, one
    without an accepted image fails by the criterion `accepted_images`, which stands there only then.
    Raises: ParameterError for a metric that does not exist, listing those that do.
    """
    check_gate(gate)
    rows = list(scores.iter_rows(named=True) if hasattr(scores, "iter_rows") else scores)
    images = _judge_images(rows, gate.image)
    total = len(images["accepted"]) + len(images["rejected"])
    figures = release_figures(quality, downstream)
    figures["accepted_fraction"] = len(images["accepted"]) / total if total else None
    criteria = [_judge(criterion, figures.get(criterion.metric)) for criterion in gate.release]
    if not images["accepted"]:
        criteria.append(_none_accepted(rows, gate.image))
    return {"passed": all(item["passed"] for item in criteria), "criteria": criteria, "images": images}


def check_gate(gate: Gate) -> None:
    """Raises: ParameterError where a criterion names a metric that does not exist."""
    for section, criteria, known in (("release", gate.release, RELEASE_METRICS), ("image", gate.image, IMAGE_METRICS)):
        for criterion in criteria:
            if not (criterion.metric in known or (section == "release" and is_release_metric(criterion.metric))):
                raise ParameterError(
                    f"gate.{section}: metric {criterion.metric!r} is unknown; expected one of {', '.join(known)}"
                )


def release_figures(quality: Report, downstream: Report) -> dict[str, float | None]:
    """Return what the reports say of each release metric; None where they say nothing."""
    figures: dict[str, float | None] = {}
    floors: dict[str, float | None] = {}
    for row in quality.get("metrics") or ():
        where = next((f"{key}={row[key]}" for key in ("plane", "center", "anomaly") if key in row), None)
        name = row["name"] if where is None else f"{row['name']}@{where}"
        figures[name], floors[name] = row["value"], row["floor"]
        if where is not None and row["name"] in ("found", "severity_error"):
            figures[f"{row['name']}.{row['anomaly']}"] = row["value"]
    for name, base in DIFFERENCES.items():
        figures[name] = _combine(figures.get(base), floors.get(base), lambda v, f: v - f)
    for name, base in RATIOS.items():
        figures[name] = _combine(figures.get(base), floors.get(base), _ratio)
    return figures | _gains(downstream.get("results") or ())


def _gains(results: Rows) -> dict[str, float | None]:
    gains: dict[str, list[float | None]] = {}
    for row in results:
        # The pre-registered task and arm alone: other rows (a rival arm, another test) may well lose.
        told = (row.get("task", "plane"), row.get("arm", "real+synthetic"), row.get("against", "real"))
        if row.get("verdict") is not None and told == ("plane", "real+synthetic", "real"):
            gains.setdefault(f"{row['metric']}_gain", []).append(row["difference"])
            gains.setdefault(f"{row['metric']}_gain_low", []).append(row["difference_low"])
    return {name: None if None in values else min(v for v in values if v is not None) for name, values in gains.items()}


def _judge(criterion: Criterion, value: float | None) -> dict[str, Any]:
    limit, passed = _limit(criterion), _reached(criterion, value)
    bound = _bound(criterion)
    if value is None:
        why, wish = f"not measured ({criterion.reason})", f"{criterion.metric} is measured and {bound}"
    else:
        why = criterion.reason
        verb = "falls" if criterion.at_most is not None else "rises"
        wish = "" if passed else f"{criterion.metric} {verb} by {abs(value - limit):.3g} to {limit:g}"
    return {
        "metric": criterion.metric,
        "value": value,
        "bound": bound,
        "passed": passed,
        "reason": why,
        "would_pass_if": wish or None,
    }


def _none_accepted(rows: list[Mapping[str, Any]], criteria: tuple[Criterion, ...]) -> dict[str, Any]:
    """Return the criterion that a release without an accepted image misses, with what most images fail by."""
    missed = Counter(c for row in rows for c in criteria if not _reached(c, _finite(row.get(c.metric))))
    if missed:
        worst, number = missed.most_common(1)[0]
        wish = (
            f"one image passes: {number} of {len(rows)} miss gate.image {worst.metric} {_bound(worst)}; train longer, "
            "or, where that bound asks too much, change it in params.yaml"
        )
    else:
        wish = "there is an image: ask for some in params.yaml (sample.normal, sample.abnormal, sample.pairs)"
    return {
        "metric": "accepted_images", "value": 0.0, "bound": ">= 1", "passed": False,
        "reason": "nobody can use a release without a single accepted image", "would_pass_if": wish,
    }  # fmt: skip


def _judge_images(rows: Rows, criteria: tuple[Criterion, ...]) -> dict[str, list[Any]]:
    accepted: list[Any] = []
    rejected: list[Any] = []
    for row in sorted(rows, key=lambda item: str(item["image_id"])):
        applied = [c for c in criteria if not (c.metric in OF_LAYOUT and row.get("asked") == 0)]
        failed = [item for item in (_judge(c, _finite(row.get(c.metric))) for c in applied) if not item["passed"]]
        if failed:
            told = "; ".join(_told(item, row) for item in failed)
            rejected.append({"image_id": row["image_id"], "reason": told})
        else:
            accepted.append(row["image_id"])
    return {"accepted": accepted, "rejected": rejected}


def _told(failed: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    because = row.get(f"{failed['metric']}_because")
    return because or f"{failed['metric']} {_shown(failed['value'])}, must be {failed['bound']}"


def _bound(criterion: Criterion) -> str:
    return f"{'<=' if criterion.at_most is not None else '>='} {_limit(criterion):g}"


def _limit(criterion: Criterion) -> float:
    limit = criterion.at_most if criterion.at_most is not None else criterion.at_least
    if limit is None:  # Refused by params.Criterion already; said here for readers and for the type checker.
        raise ParameterError(f"gate: the criterion on {criterion.metric} has no bound")
    return limit


def _reached(criterion: Criterion, value: float | None) -> bool:
    if value is None or value != value:
        return False
    return value <= _limit(criterion) if criterion.at_most is not None else value >= _limit(criterion)


def _combine(value: Any, other: Any, how: Callable[[float, float], float | None]) -> float | None:
    return None if value is None or other is None else how(value, other)


def _ratio(value: float, other: float) -> float | None:
    return value / other if other > 0 else None


def _finite(value: Any) -> float | None:
    return None if value is None or value != value else float(value)  # of a flag: 0 or 1


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
