"""The gate: measured figures against the thresholds of `params.yaml`, per release and per image, each with its reason.

A figure that is missing fails its criterion: nothing passes because it was not measured. New thresholds need no new
scores.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.anatomy.severities import KINDS
from fetalflex.errors import ParameterError
from fetalflex.params import Criterion, Gate

if TYPE_CHECKING:
    import polars as pl

Report = Mapping[str, Any]
Rows = Iterable[Mapping[str, Any]]

RELEASE_METRICS: dict[str, str] = {
    "kid": "kernel distance to real test images",
    "kid_above_floor": "kernel distance minus the real-versus-real floor",
    "frechet": "Fréchet distance to real test images",
    "frechet_over_floor": "Fréchet distance divided by the real-versus-real floor",
    "dice": "judge's mean Dice against the asked layout",
    "dice_over_judge": "that Dice divided by the judge's own on real held-out images",
    "near_copy_fraction": "fraction of images that are near-copies of a training image",
    "accuracy_gain": "smallest gain in plane accuracy over the classifiers, real+synthetic minus real",
    "macro_f1_gain": "smallest gain in plane macro-F1 over the classifiers, real+synthetic minus real",
    "accuracy_gain_low": "smallest lower bound of the gain in accuracy",
    "macro_f1_gain_low": "smallest lower bound of the gain in macro-F1",
    "accepted_fraction": "fraction of images that pass the criteria per image",
    **{f"dice.{name}": f"judge's Dice of the structure {name}" for name in STRUCTURE_NAMES},
    **{f"found.{name}": f"share of the images with {name} in which the judge finds it" for name in KINDS},
    **{
        f"severity_error.{kind.name}": f"median difference of measured and asked severity of {kind.name}, {kind.unit}"
        for kind in KINDS.values()
        if kind.unit != "present"
    },
}
IMAGE_METRICS: dict[str, str] = {
    "dice": "judge's mean Dice against the image's layout",
    "nearest_distance": "feature distance to the nearest training image",
    "nearest_correlation": "highest pixel correlation with a training image",
}


def decide(quality: Report, downstream: Report, scores: "pl.DataFrame | Rows", gate: Gate) -> dict[str, Any]:
    """Return the verdict as JSON values.

    {passed, criteria: [{metric, value, bound, passed, reason, would_pass_if}], images: {accepted: [image_id],
    rejected: [{image_id, reason}]}}; bound is text such as `<= 0.2`. `quality` and `downstream` are the reports
    (empty where a stage was not run), `scores` rows of the schema Scores. A release without criteria passes.
    Raises: ParameterError for a metric that does not exist, listing those that do.
    """
    check_gate(gate)
    rows = scores.iter_rows(named=True) if hasattr(scores, "iter_rows") else scores
    images = _judge_images(rows, gate.image)
    total = len(images["accepted"]) + len(images["rejected"])
    figures = release_figures(quality, downstream)
    figures["accepted_fraction"] = len(images["accepted"]) / total if total else None
    criteria = [_judge(criterion, figures.get(criterion.metric)) for criterion in gate.release]
    return {"passed": all(item["passed"] for item in criteria), "criteria": criteria, "images": images}


def check_gate(gate: Gate) -> None:
    """Raises: ParameterError where a criterion names a metric that does not exist."""
    for section, criteria, known in (("release", gate.release, RELEASE_METRICS), ("image", gate.image, IMAGE_METRICS)):
        for criterion in criteria:
            if criterion.metric not in known:
                raise ParameterError(
                    f"gate.{section}: metric {criterion.metric!r} is unknown; expected one of {', '.join(known)}"
                )


def release_figures(quality: Report, downstream: Report) -> dict[str, float | None]:
    """Return what the reports say of each release metric; None where they say nothing."""
    figures: dict[str, float | None] = {}
    for row in quality.get("fidelity") or ():
        figures[row["name"]] = row["value"]
        figures["kid_above_floor" if row["name"] == "kid" else f"{row['name']}_over_floor"] = _combine(
            row["value"], row["floor"], (lambda v, f: v - f) if row["name"] == "kid" else _ratio
        )
    for row in quality.get("control") or ():
        if row["structure"] == "overall":
            figures["dice"] = row["value"]
            figures["dice_over_judge"] = _combine(row["value"], row["real_value"], _ratio)
        else:
            figures[f"dice.{row['structure']}"] = row["value"]
    for row in quality.get("anomalies") or ():
        figures[f"found.{row['anomaly']}"] = row["found"]["value"]
        figures[f"severity_error.{row['anomaly']}"] = row["absolute_error"]
    figures["near_copy_fraction"] = (quality.get("privacy") or {}).get("near_copy_fraction")
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
    bound = f"{'<=' if criterion.at_most is not None else '>='} {limit:g}"
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


def _judge_images(rows: Rows, criteria: tuple[Criterion, ...]) -> dict[str, list[Any]]:
    accepted: list[Any] = []
    rejected: list[Any] = []
    for row in sorted(rows, key=lambda item: str(item["image_id"])):
        failed = [item for item in (_judge(c, _finite(row.get(c.metric))) for c in criteria) if not item["passed"]]
        if failed:
            told = "; ".join(f"{i['metric']} {_shown(i['value'])}, must be {i['bound']}" for i in failed)
            rejected.append({"image_id": row["image_id"], "reason": told})
        else:
            accepted.append(row["image_id"])
    return {"accepted": accepted, "rejected": rejected}


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
    return None if value is None or value != value else float(value)


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
