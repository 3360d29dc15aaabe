"""The form of `reports/downstream.json`: the one place that says it, for the gate and the pages to read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fetalflex.downstream.protocol import TrainingSpec
from fetalflex.downstream.statistics.anomaly_results import anomaly_results, contrasts
from fetalflex.downstream.statistics.plane_results import plane_results
from fetalflex.downstream.statistics.rows import Row, settle
from fetalflex.downstream.study import Outcome, Study
from fetalflex.quality.summary import plain


def downstream_report(
    study: Study, outcomes: Mapping[TrainingSpec, Outcome], detectors: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Return the report as JSON values.

    results: [{model, task, test, arm, metric, value, low, high, n, seeds, against, difference, difference_low,
    difference_high, p, p_corrected, verdict, primary}]; a row is one metric of one arm on one test, `against` the arm
    that it is compared with (null: none). verdict: helps, harms, no difference shown. classes, left_out, test, train
    and confusion are of the plane task; by_class, by_center, few_shot, left_center, detected and localisation hold
    rows of their own; protocol: what was fixed before the run; trainings: how many; missing: what could not be tested.
    """
    found: dict[str, Any] = {
        "protocol": protocol(study), "trainings": len(outcomes), "detectors": len(detectors),
        "missing": _missing(study),
        "classes": [], "left_out": [], "results": [],
    }  # fmt: skip
    if study.planes is not None:
        found |= _counts(study)
        found |= plane_results(study, outcomes)
    if study.anomalies is not None:
        task = study.anomalies
        told = anomaly_results(study, outcomes, detectors)
        found["results"] = [*found["results"], *told.pop("results")]
        found |= told | {
            "anomaly": {
                "planes": list(task.planes), "real": len(task.real), "synthetic": len(task.synthetic),
                "synthetic_abnormal": len(task.synthetic_abnormal), "calibration": len(task.calibration),
                "test": len(task.test), "abnormal": len(task.abnormal), "pairs": len(task.pairs),
            }
        }  # fmt: skip
    found["results"] = settle(found["results"])
    found["verdicts"] = verdicts(found["results"])
    return {key: plain(value) for key, value in found.items()}


def protocol(study: Study) -> dict[str, Any]:
    """Return what was fixed in the parameters before the run."""
    params = study.params
    fixed = ("models", "size", "pretrained", "tasks", "arms", "plane_metric", "anomaly_metric", "anomaly_test", "shots",
             "seeds", "steps", "batch_size", "learning_rate", "ratio", "more_ratios", "few_shot", "few_shot_seeds",
             "leave_center_seeds", "bootstrap")  # fmt: skip
    return {name: getattr(params, name) for name in fixed} | {"seed": study.seed}


def verdicts(results: list[Row]) -> list[Row]:
    """Return the primary comparison of each model and task: the verdicts."""
    keys = (
        "model",
        "task",
        "test",
        "metric",
        "difference",
        "difference_low",
        "difference_high",
        "p_corrected",
        "verdict",
    )
    return [{key: row[key] for key in keys} for row in results if row["primary"]]


def _counts(study: Study) -> dict[str, Any]:
    task = study.planes
    if task is None:
        return {}
    return {
        "classes": list(task.classes), "left_out": list(task.left_out),
        "test": {"images": len(task.test), "patients": len(np.unique(task.test.patients))},
        "train": {"real": len(task.real), "synthetic": len(task.synthetic)},
        "patients": len(np.unique(task.real.patients)),
    }  # fmt: skip


def _missing(study: Study) -> list[str]:
    lacking, told = study.planes_without_synthetic(), []
    if lacking:
        told.append(
            f"No synthetic image shows {', '.join(lacking)}: of these real+synthetic learns from real images alone, "
            "and the plane arm synthetic was left out"
        )
    if study.anomalies is None:
        return told
    params, tests = study.params, [test.name for test in contrasts(study.anomalies)]
    if params.anomaly_test in tests:
        return told
    return [
        *told,
        f"The pre-registered anomaly test '{params.anomaly_test}' could not be done: no images for it (there were "
        f"{', '.join(tests) or 'none'}), so the anomaly task has no verdict",
    ]
