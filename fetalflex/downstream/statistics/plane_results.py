"""What the plane task found: overall, per class and center, few shots, centers left out."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from fetalflex.downstream.data.labelled import class_numbers
from fetalflex.downstream.data.planes import PlaneTask
from fetalflex.downstream.protocol import MIXED, REAL, TrainingSpec
from fetalflex.downstream.statistics.compare import Draws, averaged, draw, interval
from fetalflex.downstream.statistics.metrics import METRICS, class_f1, confusion
from fetalflex.downstream.statistics.rows import Arms, Row, mean_matrix, rows_of
from fetalflex.downstream.study import Outcome, Study
from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Floats
from fetalflex.rng import generator

Outcomes = Mapping[TrainingSpec, Outcome]
Grouped = dict[str, list[Outcome]]


def plane_results(study: Study, outcomes: Outcomes) -> dict[str, Any]:
    """Return {results, confusion: {model: {arm: matrix}}, by_class, by_center, few_shot, left_center}."""
    found: dict[str, Any] = {
        "results": [], "confusion": {}, "by_class": [], "by_center": [], "few_shot": [], "left_center": []
    }  # fmt: skip
    for model in study.params.models:
        main = _of_arms(study, outcomes, model)
        if not main:
            continue
        arms = _arms(study, model, main)
        found["results"] += rows_of(arms, study.params.plane_metric)
        found["confusion"][model] = {arm: _matrix(study, runs) for arm, runs in main.items()}
        found["by_class"] += _by_class(study, model, main, arms.draws)
        found["by_center"] += _by_center(study, model, main)
        found["few_shot"] += _few_shot(study, outcomes, model)
        found["left_center"] += _left_center(study, outcomes, model)
    return found


def _of_arms(study: Study, outcomes: Outcomes, model: str, shots: float | None = None, without: str = "") -> Grouped:
    """Return the trainings of each arm, by repeat. Raises: TooFewCasesError where arms have unequal numbers of them."""
    wanted = study.params.shots if shots is None else shots
    found: Grouped = {}
    for spec in sorted(outcomes):
        if (spec.task, spec.model, spec.shots, spec.without) == ("plane", model, wanted, without):
            label = spec.arm if spec.ratio == study.params.ratio else f"{spec.arm} x{spec.ratio:g}"
            found.setdefault(label, []).append(outcomes[spec])
    if len({len(runs) for runs in found.values()}) > 1:
        raise TooFewCasesError(f"evaluate: {model}: the arms have unequal numbers of trainings; run evaluate again")
    return found


def _compared_arms(runs: Grouped) -> Grouped:
    kept: Grouped = {str(arm): runs[arm] for arm in (REAL, MIXED) if arm in runs}
    return kept


def _task(study: Study) -> PlaneTask:
    if study.planes is None:
        raise TooFewCasesError("evaluate: the study holds no plane task; expected one")
    return study.planes


def _truth(study: Study) -> Any:
    return class_numbers(_task(study).test.labels, _task(study).classes)


def _arms(study: Study, model: str, runs: Grouped, at: Any = None, **shape: Any) -> Arms:
    """Return the arms of one model on the test images at these positions (None: all)."""
    labels, task = _truth(study), _task(study)
    positions = np.arange(len(labels)) if at is None else at
    first = next(iter(runs.values()))
    patients = task.test.patients[positions]
    draws = draw(patients, len(first), study.params.bootstrap, generator(study.seed, "compare", model))

    def measure(metric: str, group: list[Outcome], training: int, weights: Any) -> Floats:
        outcome = group[training]
        rows = np.searchsorted(outcome["positions"], positions)
        return METRICS[metric](outcome["probabilities"][rows], labels[positions], weights)

    common = {"model": model, "task": "plane", "test": "all", "n": len(positions), "seeds": len(first)} | shape
    return Arms(common, {a: {m: partial(measure, m, g) for m in METRICS} for a, g in runs.items()}, draws)


def _matrix(study: Study, runs: list[Outcome]) -> list[list[int]]:
    labels = _truth(study)
    once = np.ones((1, len(labels)), np.int64)
    classes = runs[0]["probabilities"].shape[1]
    return mean_matrix([confusion(labels, r["probabilities"].argmax(1), once, classes)[0] for r in runs])


def _by_class(study: Study, model: str, runs: Grouped, draws: Draws) -> list[Row]:
    """Return the F1 of each class."""
    labels, task, rows = _truth(study), _task(study), []
    for arm, group in runs.items():
        for c, name in enumerate(task.classes):

            def measure(i: int, w: Any, c: int = c, group: list[Outcome] = group) -> Floats:
                p = group[i]["probabilities"]
                return class_f1(confusion(labels, p.argmax(1), w, p.shape[1]))[:, c]

            found = interval(averaged(measure, draws))
            rows.append({
                "model": model, "arm": arm, "class": name, "metric": "f1", "value": found.value, "low": found.low,
                "high": found.high, "n": int((labels == c).sum()), "seeds": len(group),
            })  # fmt: skip
    return rows


def _by_center(study: Study, model: str, runs: Grouped) -> list[Row]:
    """Return the primary metric on the test images of each center."""
    rows: list[Row] = []
    centers = _task(study).test.centers
    kept = _compared_arms(runs)
    for center in np.unique(centers).tolist():
        arms = _arms(study, model, kept, np.nonzero(centers == center)[0], test=f"center {center}", center=center)
        rows += [row for row in rows_of(arms, None) if row["metric"] in ("accuracy", study.params.plane_metric)]
    return rows


def _few_shot(study: Study, outcomes: Outcomes, model: str) -> list[Row]:
    """Return the primary metric at each share of the training patients, the main one among them."""
    rows: list[Row] = []
    points = sorted({s.shots for s in outcomes if s.task == "plane" and s.model == model and not s.without})
    for shots in points if len(points) > 1 else []:
        runs = _compared_arms(_of_arms(study, outcomes, model, shots))
        arms = _arms(study, model, runs, test=f"shots {shots:g}", shots=shots)
        rows += [row for row in rows_of(arms, None) if row["metric"] == study.params.plane_metric]
    return rows


def _left_center(study: Study, outcomes: Outcomes, model: str) -> list[Row]:
    """Return the primary metric on each center that training has not seen."""
    rows: list[Row] = []
    for center in sorted({s.without for s in outcomes if s.without and s.model == model}):
        runs = _of_arms(study, outcomes, model, without=center)
        positions = next(iter(runs.values()))[0]["positions"]
        arms = _arms(study, model, runs, positions, test=f"without {center}", center=center)
        rows += [row for row in rows_of(arms, None) if row["metric"] == study.params.plane_metric]
    return rows
