"""What the anomaly task found: within one source, on pairs, across sources; by severity and finding; where heat lies.

A test compares two sets of scores. Thresholds come from `calibration` alone: the level that 5 % of those real normal
images exceed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.downstream.data.anomalies import AnomalyTask
from fetalflex.downstream.protocol import REAL, TrainingSpec
from fetalflex.downstream.statistics.compare import draw
from fetalflex.downstream.statistics.metrics import BINARY, paired_auc
from fetalflex.downstream.statistics.rows import Arms, Row, rows_of
from fetalflex.downstream.statistics.small import auc_interval, share_interval, wider
from fetalflex.downstream.study import Outcome, Study
from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Floats, Interval
from fetalflex.rng import generator

Array = npt.NDArray[Any]
Named = Mapping[str, Outcome]
VENTRICLES = "ventriculomegaly"
ORDER = ("mild", "moderate", "severe")
FALSE_ALARMS = 0.05
_FEW = 100  # images below which a bootstrap's interval may be too narrow


@dataclass(frozen=True, eq=False)
class Contrast:
    """One test: in which sets, at which positions, the negatives and the positives lie, and their patients."""

    name: str
    negatives: tuple[str, Array]
    positives: tuple[str, Array]
    patients: Array

    @property
    def truth(self) -> Array:
        """Whether each image, negatives first, is positive."""
        return np.repeat([False, True], [len(self.negatives[1]), len(self.positives[1])])

    def scores(self, outcome: Outcome) -> Array:
        """Return the scores of negatives and positives."""
        parts = [outcome[name][index] for name, index in (self.negatives, self.positives)]
        return np.concatenate(parts)


def contrasts(task: AnomalyTask) -> list[Contrast]:
    """Return the tests that the images at hand allow, those within one source first."""
    found, labels, patients = [], task.abnormal.labels, task.abnormal.patients
    grade = np.array([next((g for g in ORDER if g in str(name)), "") for name in labels], np.str_)
    wide = np.array([VENTRICLES in str(name) for name in labels], bool)
    mild = np.nonzero(wide & (grade == "mild"))[0]
    worse = np.nonzero(wide & np.isin(grade, ["moderate", "severe"]))[0]
    other, ventricles = np.nonzero(~wide)[0], np.nonzero(wide)[0]
    for name, low, high in (("severity", mild, worse), ("kind", other, ventricles)):
        if len(low) > 1 and len(high) > 1:
            found.append(Contrast(name, ("abnormal", low), ("abnormal", high), patients[np.concatenate([low, high])]))
    if len(task.pairs):
        every = np.arange(len(task.pairs))
        cases = np.concatenate([task.pairs.cases, task.pairs.cases])
        found.append(Contrast("pairs", ("pairs_normal", every), ("pairs_abnormal", every), cases))
    if len(task.abnormal) and len(task.test):
        normal = np.arange(len(task.test))
        both = np.concatenate([task.test.patients, patients])
        found.append(Contrast("source", ("test", normal), ("abnormal", np.arange(len(labels))), both))
    return found


def anomaly_results(study: Study, outcomes: Mapping[TrainingSpec, Outcome], detectors: Named) -> dict[str, Any]:
    """Return {results, detected, localisation}; detectors are models with the arm `real` and one training."""
    task = _task(study)
    found: dict[str, Any] = {"results": [], "detected": [], "localisation": []}
    groups: list[tuple[str, dict[str, list[Outcome]]]] = [
        (model, _of_arms(study, outcomes, model)) for model in study.params.models
    ]
    groups += [(name, {REAL: [outcome]}) for name, outcome in detectors.items()]
    for model, arms in groups:
        for test in contrasts(task) if arms else []:
            if all(test.negatives[0] in run and test.positives[0] in run for runs in arms.values() for run in runs):
                found["results"] += _rows(study, model, arms, test)
        for arm, runs in arms.items():
            if "calibration" in runs[0]:
                found["detected"] += _detected(task, {"model": model, "arm": arm, "seeds": len(runs)}, runs)
    for name, outcome in detectors.items():
        if "heat_pairs_abnormal" in outcome:
            found["localisation"].append({"model": name} | localise(outcome["heat_pairs_abnormal"], task.pairs.regions))
    return found


def _task(study: Study) -> AnomalyTask:
    if study.anomalies is None:
        raise TooFewCasesError("evaluate: the study holds no anomaly task; expected one")
    return study.anomalies


def _of_arms(study: Study, outcomes: Mapping[TrainingSpec, Outcome], model: str) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for spec in sorted(outcomes):
        if (spec.task, spec.model) == ("anomaly", model):
            label = spec.arm if spec.ratio == study.params.ratio else f"{spec.arm} x{spec.ratio:g}"
            found.setdefault(label, []).append(outcomes[spec])
    if len({len(runs) for runs in found.values()}) > 1:
        raise TooFewCasesError(f"evaluate: {model}: the arms have unequal numbers of trainings; run evaluate again")
    return found


def _rows(study: Study, model: str, runs: Mapping[str, list[Outcome]], test: Contrast) -> list[Row]:
    first, truth = next(iter(runs.values())), test.truth
    shape = {"model": model, "task": "anomaly", "test": test.name, "n": len(truth), "seeds": len(first)}
    draws = draw(test.patients, len(first), study.params.bootstrap, generator(study.seed, "compare", model, test.name))
    main = study.params.anomaly_metric if test.name == study.params.anomaly_test else None
    measures: dict[str, dict[str, Any]] = {}
    for arm, group in runs.items():
        scores = [test.scores(outcome) for outcome in group]
        measures[arm] = {name: partial(_binary, measure, scores, truth) for name, measure in BINARY.items()}
        if test.name == "pairs":
            measures[arm]["paired_auc"] = partial(_paired, scores)

    def widen(metric: str, found: Interval) -> Interval:
        if len(truth) >= _FEW or metric == "auprc":
            return found
        if metric == "paired_auc":
            half = len(truth) // 2
            return wider(found, share_interval(found.value * half, half))
        return wider(found, auc_interval(found.value, int(truth.sum()), int((~truth).sum())))

    return rows_of(Arms(shape, measures, draws, widen), main)


def _binary(measure: Any, scores: list[Array], truth: Array, training: int, weights: Array) -> Floats:
    found: Floats = measure(scores[training], truth, weights)
    return found


def _paired(scores: list[Array], training: int, weights: Array) -> Floats:
    before, after = np.split(scores[training], 2)
    return paired_auc(before, after, weights[:, : len(before)])  # both halves are of one case: drawn equally often


def _detected(task: AnomalyTask, shape: Row, runs: list[Outcome]) -> list[Row]:
    """Return the share of images above the threshold: real normal ones, each finding, pairs by anomaly and severity."""
    rows = []
    for name, group, severity, index in _groups(task):
        alarms = [float((run[name][index] > threshold(run)).mean()) for run in runs]
        found = share_interval(float(np.mean(alarms)) * len(index), len(index))
        rows.append(shape | {"set": name, "group": group, "severity": severity, "n": len(index)} | vars(found))
    return rows


def threshold(outcome: Outcome) -> float:
    """Return the score that 5 % of the calibration images exceed."""
    return float(np.quantile(outcome["calibration"], 1 - FALSE_ALARMS))


def _groups(task: AnomalyTask) -> list[tuple[str, str, float | None, Array]]:
    """Return (set, group, severity or None, positions): what sensitivity is told of."""
    found: list[tuple[str, str, float | None, Array]] = [("test", "normal", None, np.arange(len(task.test)))]
    found += [
        ("abnormal", str(label), None, np.nonzero(task.abnormal.labels == label)[0])
        for label in np.unique(task.abnormal.labels).tolist()
    ]
    if len(task.pairs):
        found.append(("pairs_normal", "normal half", None, np.arange(len(task.pairs))))
    for name in np.unique(task.pairs.anomalies).tolist():
        here = np.nonzero(task.pairs.anomalies == name)[0]
        ordered = here[np.argsort(np.abs(task.pairs.severities[here]), kind="stable")]
        graded = len(np.unique(task.pairs.severities[here])) > 1 and len(here) >= 6
        for part in np.array_split(ordered, 3 if graded else 1):
            severity = float(np.mean(task.pairs.severities[part]))
            found.append(("pairs_abnormal", str(name), severity if graded else None, part))
    return [group for group in found if len(group[3])]


def localise(heats: Array, regions: npt.NDArray[np.bool_]) -> Row:
    """Return how well heat maps [P, S, S] point at the changed regions [P, S, S].

    pointing: whether the hottest pixel lies inside (Zhang et al. 2018, arXiv 1608.00507); chance: the regions' mean
    share of the image; dice: of the region and as many of the hottest pixels, and what a random choice would reach.
    """
    n, flat = len(heats), heats.reshape(len(heats), -1)
    inside = regions.reshape(n, -1)
    hits = inside[np.arange(n), flat.argmax(1)].sum() if n else 0
    dices = []
    for heat, region in zip(flat, inside, strict=True):
        hottest = np.argsort(-heat, kind="stable")[: region.sum()]
        dices.append(float(region[hottest].mean()) if region.any() else float("nan"))
    pointing, chance = share_interval(float(hits), n), float(inside.mean()) if n else float("nan")
    return {
        "n": n, "pointing": pointing.value, "low": pointing.low, "high": pointing.high, "chance": chance,
        "dice": float(np.nanmean(dices)) if n else float("nan"), "dice_chance": chance,
    }  # fmt: skip
