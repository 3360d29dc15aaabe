"""From single trainings to a verdict: metrics with intervals over test patients, and whether synthetic images help."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.downstream.protocol import ARMS, PlaneTask, TrainingResult, class_numbers
from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Floats, Interval, patient_draws, percentile_interval
from fetalflex.rng import generator

TASK = "plane"
HELPS, HARMS, NO_DIFFERENCE = "helps", "harms", "no difference shown"
METRICS = ("accuracy", "macro_f1")


@dataclass(frozen=True, eq=False)
class _Draws:
    """`images`: how often each test image counts, [draws, N], row 0 all ones; `repeats`: trainings averaged."""

    images: npt.NDArray[np.int64]
    repeats: npt.NDArray[np.int64]


def summarise(results: Sequence[TrainingResult], task: PlaneTask, *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Return `reports/downstream.json`.

    {classes, left_out, test: {images, patients}, train: {real, synthetic}, results: [{model, task, arm, metric,
    value, low, high, n, seeds, verdict, difference, difference_low, difference_high}], confusion: {model: {arm:
    [[true x predicted]]}}}. The last four keys of a row are null in the arm `real`. The bootstrap draws test patients
    and repeats together, the same for both arms; a verdict other than `no difference shown` needs an interval of the
    difference that leaves out zero. It is not corrected for the number of models and metrics.
    Raises: TooFewCasesError where an arm of a model has not the same repeats as the other.
    """
    labels = class_numbers(task.test.planes, task.classes)
    rows: list[dict[str, Any]] = []
    confusion: dict[str, Any] = {}
    for model in dict.fromkeys(r.spec.model for r in results):
        found = {arm: _predictions(results, model, arm) for arm in ARMS}
        if len(found["real"]) != len(found["real+synthetic"]) or not len(found["real"]):
            raise TooFewCasesError(f"evaluate: {model}: the arms have unequal numbers of trainings; run evaluate again")
        draws = _draw(task.test.patients, len(found["real"]), bootstrap, generator(seed, "compare", model))
        counts = {arm: _counts(labels, found[arm], len(task.classes), draws) for arm in ARMS}
        shape = {"model": model, "task": TASK, "n": len(labels), "seeds": len(found["real"])}
        rows += [row | shape for metric in METRICS for row in _compare(metric, counts)]
        confusion[model] = {arm: counts[arm][0].sum(0).tolist() for arm in ARMS}
    return {
        "classes": list(task.classes),
        "left_out": list(task.left_out),
        "test": {"images": len(labels), "patients": len(np.unique(task.test.patients))},
        "train": {"real": len(task.real), "synthetic": len(task.synthetic)},
        "results": rows,
        "confusion": confusion,
    }


def accuracy(confusion: npt.NDArray[Any]) -> Floats:
    """Return the accuracy of confusion matrices [..., true, predicted]."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-2, -1))


def macro_f1(confusion: npt.NDArray[Any]) -> Floats:
    """Return the mean F1 over the classes that occur among the true labels, of [..., true, predicted]."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, predicted = confusion.sum(-1), confusion.sum(-2)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    occurs = true > 0
    return (f1 * occurs).sum(-1) / np.maximum(occurs.sum(-1), 1)


def verdict_of(difference: Interval) -> str:
    """Return what the interval of a gain allows to say."""
    if difference.low > 0:
        return HELPS
    return HARMS if difference.high < 0 else NO_DIFFERENCE


def _predictions(results: Sequence[TrainingResult], model: str, arm: str) -> npt.NDArray[np.int64]:
    chosen = [r for r in results if r.spec.model == model and r.spec.arm == arm]
    return np.array([r.predictions for r in sorted(chosen, key=lambda r: r.spec.repeat)], np.int64)


def _draw(patients: npt.NDArray[np.str_], repeats: int, bootstrap: int, rng: np.random.Generator) -> _Draws:
    """Row 0 is the sample itself."""
    images = np.concatenate([np.ones((1, len(patients)), np.int64), patient_draws(patients, bootstrap, rng)])
    drawn = rng.integers(repeats, size=(bootstrap, repeats))
    return _Draws(images, np.concatenate([np.arange(repeats)[None], drawn]))


def _counts(
    labels: npt.NDArray[np.int64], found: npt.NDArray[np.int64], classes: int, draws: _Draws
) -> npt.NDArray[np.int64]:
    """Return confusion matrices [draws, repeats, true, predicted]."""
    cells = labels[None] * classes + found  # [repeats, N]
    onehot = (cells[:, :, None] == np.arange(classes * classes)).astype(np.int64)  # [repeats, N, cells]
    every = np.einsum("bn,rnc->brc", draws.images, onehot)
    picked = np.take_along_axis(every, draws.repeats[:, :, None], axis=1)
    return picked.reshape(*picked.shape[:2], classes, classes)


def _compare(metric: str, counts: dict[Any, npt.NDArray[np.int64]]) -> list[dict[str, Any]]:
    measure = accuracy if metric == "accuracy" else macro_f1
    values = {arm: measure(counts[arm]).mean(axis=1) for arm in ARMS}  # [draws]; the first is the sample itself
    gain = values["real+synthetic"] - values["real"]
    difference = percentile_interval(float(gain[0]), gain[1:])
    rows = []
    for arm in ARMS:
        interval = percentile_interval(float(values[arm][0]), values[arm][1:])
        row = {"arm": arm, "metric": metric, "value": interval.value, "low": interval.low, "high": interval.high}
        told = arm == "real+synthetic"
        rows.append(
            row
            | {
                "verdict": verdict_of(difference) if told else None,
                "difference": difference.value if told else None,
                "difference_low": difference.low if told else None,
                "difference_high": difference.high if told else None,
            }
        )
    return rows
