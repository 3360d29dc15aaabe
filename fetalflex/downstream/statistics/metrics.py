"""Metrics of weighted test images, for many weightings (bootstrap draws) at once; each equals scikit-learn's.

Weights are int or float [draws, N]; results float64 [draws], NaN where a draw holds no image of a needed class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
BINS = 10


def confusion(labels: Array, predicted: Array, weights: Array, classes: int) -> Array:
    """Return how often each true class [N] got each prediction [N]: [draws, true, predicted]."""
    cells = labels * classes + predicted
    onehot = cells[:, None] == np.arange(classes * classes)
    return (weights @ onehot).reshape(len(weights), classes, classes)


def accuracy(probabilities: Array, labels: Array, weights: Array) -> Floats:
    """Return the share of images whose likeliest class [N, C] is their own."""
    return _share(weights, probabilities.argmax(1) == labels)


def macro_f1(probabilities: Array, labels: Array, weights: Array) -> Floats:
    """Return the mean F1 over the classes that occur among the labels."""
    counts = confusion(labels, probabilities.argmax(1), weights, probabilities.shape[1])
    f1, occurs = class_f1(counts), counts.sum(-1) > 0
    return (f1 * occurs).sum(-1) / np.maximum(occurs.sum(-1), 1)


def class_f1(counts: Array) -> Floats:
    """Return the F1 of each class of confusion matrices [..., true, predicted]."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    found: Floats = 2 * hits / np.maximum(counts.sum(-1) + counts.sum(-2), 1)
    return found


def macro_auc(probabilities: Array, labels: Array, weights: Array) -> Floats:
    """Return the mean over classes of the area under the ROC curve, one class against the rest."""
    return _over_classes(auc, probabilities, labels, weights)


def macro_auprc(probabilities: Array, labels: Array, weights: Array) -> Floats:
    """Return the mean over classes of the average precision, one class against the rest."""
    return _over_classes(average_precision, probabilities, labels, weights)


def auc(scores: Array, positive: Array, weights: Array) -> Floats:
    """Return the area under the ROC curve of scores [N]; equal scores count half."""
    hits, misses = _cumulated(scores, positive, weights)
    edge = np.zeros((len(weights), 1))
    area = (np.diff(misses, axis=1, prepend=edge) * (hits + np.concatenate([edge, hits[:, :-1]], 1)) / 2).sum(1)
    return _ratio(area, hits[:, -1] * misses[:, -1])


def average_precision(scores: Array, positive: Array, weights: Array) -> Floats:
    """Return the area under the precision-recall curve, as the sum of precision times gain in recall."""
    hits, misses = _cumulated(scores, positive, weights)
    precision = hits / np.maximum(hits + misses, 1e-12)
    gained = np.diff(hits, axis=1, prepend=np.zeros((len(weights), 1)))
    return _ratio((precision * gained).sum(1), hits[:, -1])


def calibration_error(probabilities: Array, labels: Array, weights: Array) -> Floats:
    """Return the expected calibration error: |confidence - accuracy| in ten equal bins of confidence, by their weight.

    Source: Naeini et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning (AAAI).
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    inside = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)[:, None] == np.arange(BINS)
    gaps = np.abs(weights @ (inside * (confidence - right)[:, None]))
    return _ratio(gaps.sum(1), weights.sum(1))


def paired_auc(before: Array, after: Array, weights: Array) -> Floats:
    """Return how often the abnormal half of a pair [P] scores higher than its normal half; equal scores count half."""
    return _share(weights, (after > before) + 0.5 * (after == before))


METRICS: dict[str, Callable[[Array, Array, Array], Floats]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "auc": macro_auc,
    "auprc": macro_auprc,
    "ece": calibration_error,
}
BINARY: dict[str, Callable[[Array, Array, Array], Floats]] = {"auc": auc, "auprc": average_precision}


def _share(weights: Array, value: Array) -> Floats:
    return _ratio(weights @ value.astype(np.float64), weights.sum(1))


def _ratio(above: Array, below: Array) -> Floats:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=np.asarray(below) > 0)


def _over_classes(measure: Callable[[Array, Array, Array], Floats], p: Array, labels: Array, weights: Array) -> Floats:
    """Return the mean over the classes that a draw can be measured for."""
    found = np.stack([measure(p[:, c], labels == c, weights) for c in range(p.shape[1])])
    known = np.isfinite(found)
    return _ratio(np.where(known, found, 0).sum(0), known.sum(0))


def _cumulated(scores: Array, positive: Array, weights: Array) -> tuple[Floats, Floats]:
    """Return weights of positive and of negative images at or above each distinct score: [draws, scores]."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.nonzero(np.diff(scores[order]))[0], len(scores) - 1)
    drawn, hit = weights[:, order], positive[order]
    return tuple(np.cumsum(drawn * part, axis=1, dtype=np.float64)[:, ends] for part in (hit, ~hit))  # type: ignore[return-value]
