"""Does a release show one and the same image again and again? Mode collapse, counted image by image.

An image repeats another where both look alike when blurred and their fine detail, laid over one another, correlates
almost wholly. Images of one source (a patient, a layout and its counterfactual) are meant to be alike and do not count.
"""

import numpy as np
import numpy.typing as npt

from fetalflex.ingest.alike import Views, compare_views
from fetalflex.quality.bootstrap import Array
from fetalflex.quality.thumbnails import Images, blurred, thumbnails

ALIKE = 0.9  # correlation of blurred pixels from which detail is looked at
SAME = 0.9  # correlation of detail from which two images are one: a change of gain or a little noise reaches it
TRIED = 3  # others, the most alike when blurred, that are looked at
_ROWS = 1024  # compared with all others at once


def repeated(images: Images, clusters: Array) -> npt.NDArray[np.bool_]:
    """Return which images uint8 [N, S, S] show what another one of another source shows: bool [N]."""
    rows, names = blurred(images), np.unique(clusters, return_inverse=True)[1]
    left, right = [], []
    for start in range(0, len(images), _ROWS):
        likeness = rows[start : start + _ROWS] @ rows.T
        likeness[names[start : start + _ROWS, None] == names] = -1
        others = np.argsort(-likeness, axis=1, kind="stable")[:, :TRIED]
        i, k = np.nonzero(np.take_along_axis(likeness, others, 1) > ALIKE)
        left.append(i + start)
        right.append(others[i, k])
    first, second = (np.concatenate([*part, np.zeros(0, np.int64)]).astype(np.int64) for part in (left, right))
    result = np.zeros(len(images), bool)
    if len(first):
        views = Views(thumbnails(images))
        same = compare_views((views, views), first, second).correlation > SAME
        result[first[same]] = True
        result[second[same]] = True
    return result
