"""Is a synthetic image a training image again? The nearest training image in features and in pixels.

What counts as a near-copy is measured, not guessed: real held-out patients are no copies of training patients, so an
image that lies nearer to a training image than (nearly) all of them do is flagged.
"""

from dataclasses import dataclass

import numpy as np

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Array, Floats

QUANTILE = 0.01
SURE_CORRELATION = 0.995


@dataclass(frozen=True)
class Gallery:
    """Images uint8 [N, S, S] with features [N, D] and identifiers str [N]."""

    images: Array
    features: Array
    ids: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Limits:
    """Nearer than `distance` or more alike than `correlation` is a near-copy. `n`: held-out images behind them."""

    distance: float
    correlation: float
    n: int


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of one image.

    `case_id`: nearest in features, at `distance` (cosine, 0 to 2). `correlation`: the highest of pixels with any
    training image, `correlated_case`, also mirrored (`mirrored`). `near_copy`: past one of the limits.
    """

    image_id: str
    case_id: str
    distance: float
    correlated_case: str
    correlation: float
    mirrored: bool
    near_copy: bool


def held_out_limits(held_out: Gallery, training: Gallery) -> Limits:
    """Return the limits that 1 % of real held-out images pass by chance, on each of the two measures.

    A correlation of 0.995 is a copy whatever the held-out images say. Raises: TooFewCasesError for an empty side.
    """
    found = _nearest(held_out, training)
    distance = float(np.quantile(found.distance, QUANTILE))
    return Limits(distance, min(SURE_CORRELATION, float(np.quantile(found.correlation, 1 - QUANTILE))), len(held_out))


def nearest_training(synthetic: Gallery, training: Gallery, limits: Limits) -> tuple[Nearest, ...]:
    """Return for each synthetic image its nearest training images. Raises: TooFewCasesError for an empty side."""
    found = _nearest(synthetic, training)
    return tuple(
        Nearest(
            str(synthetic.ids[i]),
            str(training.ids[found.by_feature[i]]),
            float(found.distance[i]),
            str(training.ids[found.by_pixel[i]]),
            float(found.correlation[i]),
            bool(found.mirrored[i]),
            bool(found.distance[i] < limits.distance or found.correlation[i] > limits.correlation),
        )
        for i in range(len(synthetic))
    )


@dataclass(frozen=True)
class _Found:
    by_feature: Array
    distance: Floats
    by_pixel: Array
    correlation: Floats
    mirrored: Array


def _nearest(queries: Gallery, training: Gallery) -> _Found:
    for name, gallery in (("query", queries), ("training", training)):
        if not len(gallery):
            raise TooFewCasesError(f"privacy: no {name} image; expected at least one")
    cosine = 1 - _unit(queries.features) @ _unit(training.features).T  # [queries, training]
    reference = _unit(_centred(training.images))
    straight = _unit(_centred(queries.images)) @ reference.T
    flipped = _unit(_centred(queries.images[:, :, ::-1])) @ reference.T
    alike = np.maximum(straight, flipped)
    rows, by_feature, by_pixel = np.arange(len(queries)), cosine.argmin(1), alike.argmax(1)
    return _Found(
        by_feature,
        np.maximum(cosine[rows, by_feature], 0.0),
        by_pixel,
        np.clip(alike[rows, by_pixel], -1.0, 1.0),
        flipped[rows, by_pixel] > straight[rows, by_pixel],
    )


def _centred(images: Array) -> Floats:
    flat = images.reshape(len(images), -1).astype(np.float64)
    return flat - flat.mean(axis=1, keepdims=True)


def _unit(rows: Array) -> Floats:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
