"""How far does style alone tell two sources apart? A linear classifier that never sees the head.

Where abnormal and normal images come from different sources, their scanners, gains and formats differ as well. An AUC
across sources says little unless it is well above what this classifier reaches with the head masked out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fetalflex.masks.segmenter import Segmenter, largest_part

Images = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
_MARGIN_PX, _GRID, _FOLDS, _LEVELS = 3, 8, 5, 8


def style_scores(
    images: Images, anatomy: npt.NDArray[np.bool_], abnormal: npt.NDArray[np.bool_], patients: npt.NDArray[np.str_]
) -> Floats:
    """Return cross-validated scores [N] for being of the abnormal source; no patient is in both parts of a fold.

    images uint8 [N, S, S]; anatomy bool [N, S, S] is masked out; all NaN where a source has fewer than five patients.
    """
    scores = np.full(len(images), np.nan, np.float32)
    fewest = min(len(np.unique(patients[abnormal])), len(np.unique(patients[~abnormal])))
    if fewest < _FOLDS:
        return scores
    features = style_features(images, anatomy)
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for learnt, tested in folds.split(features, abnormal, patients):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"))
        model.fit(features[learnt], abnormal[learnt])
        scores[tested] = model.decision_function(features[tested])
    return scores


def style_features(images: Images, anatomy: npt.NDArray[np.bool_]) -> Floats:
    """Return grey levels of what is left: a coarse picture and a histogram, float32 [N, D]."""
    outside = ~anatomy
    blank = images * outside
    side = images.shape[1] // _GRID
    coarse = blank.reshape(len(images), _GRID, side, _GRID, side).mean((2, 4)).reshape(len(images), -1)
    levels = np.minimum(images // (256 // _LEVELS), _LEVELS - 1)
    counts = np.stack([((levels == level) & outside).sum((1, 2)) for level in range(_LEVELS)], axis=1)
    share = counts / np.maximum(outside.sum((1, 2)), 1)[:, None]
    return np.concatenate([coarse / 255, share], axis=1).astype(np.float32)


def anatomy_masks(guide: Segmenter, images: Images) -> Masks:
    """Return where the guide sees any structure, filled and grown: bool [N, S, S]."""
    if not len(images):
        return np.zeros(images.shape, bool)
    seen = np.any(guide.predict(images) > 0.5, axis=1)
    return np.stack([binary_dilation(largest_part(mask), iterations=_MARGIN_PX) for mask in seen])
