"""Does the image show what its layout asked for? Dice of the judge's segmentation against the asked layout.

The judge is trained on patients of its own and never guides sampling. Its Dice on real held-out images stands beside
every figure: what it cannot find in real images, it cannot vouch for in synthetic ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy.layout import box_mask, mask_box
from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Array, Floats, Interval, mean_interval
from fetalflex.rng import generator

Judge = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
NOT_ASKED, AS_BOX, AS_MASK = 0, 1, 2
OVERALL = "overall"


@dataclass(frozen=True)
class Control:
    """Mean Dice of one structure over n images, and the judge's own on n_real held-out real images."""

    structure: str
    value: float
    low: float
    high: float
    n: int
    real_value: float
    real_low: float
    real_high: float
    n_real: int


def dice(mask: Array, other: Array) -> float:
    """Return 2 |A and B| / (|A| + |B|) of two bool masks; NaN where both are empty (nothing asked, nothing found).

    Source: Dice 1945.
    """
    total = int(mask.sum()) + int(other.sum())
    return 2 * int((mask & other).sum()) / total if total else float("nan")


def control_dice(judge: Judge, images: npt.NDArray[np.uint8], maps: Array, kinds: Array) -> Floats:
    """Return the Dice of each asked structure in each image, float64 [N, K], NaN where it was not asked.

    images: uint8 [N, S, S]; maps: [N, K, S, S] and kinds: [N, K] as in `anatomy.layout.LayoutMaps`. Where only a box
    was asked, the box of what the judge sees is compared with it: a shape was not asked for.
    Raises: TooFewCasesError where the arrays do not fit together.
    """
    probabilities = judge(images)  # [N, K, S, S]
    if probabilities.shape != maps.shape or kinds.shape != maps.shape[:2]:
        raise TooFewCasesError(
            f"control: the judge gave {probabilities.shape} for layouts {maps.shape}, {kinds.shape}; "
            "expected one mask per image and structure"
        )
    scores = np.full(kinds.shape, np.nan)
    for n, k in zip(*np.nonzero(kinds != NOT_ASKED), strict=True):
        found = probabilities[n, k] > 0.5
        if kinds[n, k] == AS_BOX:
            found = _boxed(found)
        scores[n, k] = dice(found, maps[n, k] > 0.5)
    return scores


def summarise(
    synthetic: tuple[Floats, Array], real: tuple[Floats, Array], *, bootstrap: int, seed: int
) -> tuple[Control, ...]:
    """Return one Control per structure that was asked, and `overall` (mean per image) at the end.

    `synthetic` and `real`: (Dice [N, K], clusters str [N]). The overall figure of `real` covers only the structures
    that were asked of the synthetic images, so that the two can be compared.
    """
    scores, clusters = synthetic
    real_scores, real_clusters = real
    asked = [k for k in range(scores.shape[1]) if np.isfinite(scores[:, k]).any()]
    columns = {STRUCTURE_NAMES[k]: (scores[:, k], real_scores[:, k]) for k in asked}
    columns[OVERALL] = (image_means(scores[:, asked]), image_means(real_scores[:, asked]))
    rows = []
    for name, (values, real_values) in columns.items():
        here = mean_interval(values, clusters, bootstrap, generator(seed, "control", name))
        there = mean_interval(real_values, real_clusters, bootstrap, generator(seed, "judge", name))
        rows.append(_row(name, here, values, there, real_values))
    return tuple(rows)


def image_means(scores: Floats) -> Floats:
    """Return each image's mean Dice over the structures that were asked, [N]; NaN where none was."""
    known = np.isfinite(scores)
    count = known.sum(axis=1)
    total = np.where(known, scores, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _row(name: str, here: Interval, values: Floats, there: Interval, real_values: Floats) -> Control:
    n, n_real = int(np.isfinite(values).sum()), int(np.isfinite(real_values).sum())
    return Control(name, here.value, here.low, here.high, n, there.value, there.low, there.high, n_real)


def _boxed(mask: Array) -> Array:
    side = mask.shape[0]
    box = mask_box(mask, float(side))
    return mask if box is None else box_mask(box, float(side), side)
