"""Precision, recall, density and coverage: which images lie among the nearest neighbours of the other set.

Precision and density ask whether synthetic images lie where real ones do; recall and coverage whether real images are
met by synthetic ones. Each is a mean over images, so its interval is that of a mean over patients.
Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), equation 2; Naeem et al. 2020 (arXiv 2002.09797), equations 3, 4.
"""

from dataclasses import dataclass

import numpy as np

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Array, Floats

NEIGHBOURS = 5
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What each image counts: precision, density [M] of synthetic images; recall, coverage [N] of real ones."""

    precision: Floats
    density: Floats
    recall: Floats
    coverage: Floats


def neighbours(real: Array, synthetic: Array, k: int = NEIGHBOURS) -> Neighbours:
    """Return each image's share in the four figures; block by block, so memory is a few rows of distances.

    Raises: TooFewCasesError for fewer than k + 1 images on a side.
    """
    if min(len(real), len(synthetic)) <= k:
        raise TooFewCasesError(
            f"neighbours: {len(real)} real and {len(synthetic)} synthetic images; expected more than {k} on each side"
        )
    real_radius, synthetic_radius = _radii(real, k), _radii(synthetic, k)
    inside, near = np.zeros(len(synthetic)), np.zeros(len(real))
    recall = np.zeros(len(real))
    for start in range(0, len(real), _BLOCK):
        rows = slice(start, start + _BLOCK)
        squares = _squares(real[rows], synthetic)  # [B, M]
        hit = squares <= real_radius[rows, None]
        inside += hit.sum(0)
        near[rows] = hit.any(1)
        recall[rows] = (squares <= synthetic_radius[None, :]).any(1)
    return Neighbours((inside > 0).astype(np.float64), inside / k, recall, near)


def realism(real: Array, synthetic: Array, k: int = NEIGHBOURS) -> Floats:
    """Return each synthetic image's realism float64 [M]: above 1 it lies among real images; NaN where those are <= k.

    The largest ratio of a real image's radius to its distance, over the half of the real images with smaller radii.
    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), equation 3.
    """
    if len(real) <= k:
        return np.full(len(synthetic), np.nan)
    radius = _radii(real, k)
    dense = radius <= np.median(radius)
    parts = []
    for start in range(0, len(synthetic), _BLOCK):
        squares = np.maximum(_squares(synthetic[start : start + _BLOCK], real[dense]), 1e-12)
        parts.append(np.sqrt((radius[dense][None, :] / squares).max(1)))
    return np.concatenate(parts) if parts else np.zeros(0)


def _radii(features: Array, k: int) -> Floats:
    """Return each image's squared distance to its k-th nearest other image."""
    parts = []
    for start in range(0, len(features), _BLOCK):
        squares = _squares(features[start : start + _BLOCK], features)
        parts.append(np.partition(squares, k, axis=1)[:, k])
    return np.concatenate(parts)


def _squares(rows: Array, others: Array) -> Floats:
    """Return squared distances [B, M], float64 from float32 products of centred features."""
    centre = others[:_BLOCK].mean(0)
    a, b = rows - centre, others - centre
    squares = (a * a).sum(1, dtype=np.float64)[:, None] + (b * b).sum(1, dtype=np.float64)[None, :]
    return np.asarray(np.maximum(squares - 2.0 * (a @ b.T), 0.0))
