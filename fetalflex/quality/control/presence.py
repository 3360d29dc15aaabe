"""Is what was asked there at all, and what was asked to be absent gone? Shares of the asked structures."""

import numpy as np
from scipy.ndimage import binary_dilation

from fetalflex.quality.bootstrap import Floats
from fetalflex.quality.control.judgement import Judgement

LEAST_SEEN = 0.1  # of the asked area, within the asked place grown by a tenth of the side: less is not there
LEAST_PX = 4  # pixels of a structure below which nothing was marked


def missing(judged: Judgement) -> Floats:
    """Return 1 where an asked structure is not seen near its place, 0 where it is: float64 [N, K], NaN if not asked."""
    asked_for = (judged.wanted | judged.boxed) & judged.asked.any((2, 3))
    found = np.full(asked_for.shape, np.nan)
    reach = max(1, judged.seen.shape[-1] // 10)
    for n, k in zip(*np.nonzero(asked_for), strict=True):
        place = binary_dilation(judged.asked[n, k], iterations=reach)
        area = int((judged.seen[n, k] & place).sum())
        found[n, k] = float(area < max(LEAST_PX, LEAST_SEEN * int(judged.asked[n, k].sum())))
    return found


def intruding(judged: Judgement) -> Floats:
    """Return 1 where a structure asked to be absent is seen anywhere, 0 where not: [N, K], NaN if not asked."""
    seen = judged.seen.sum((2, 3)) >= LEAST_PX
    return np.where(judged.absent, seen.astype(np.float64), np.nan)
