"""How far the outline that the judge sees lies from the asked one, in millimetres (MONAI's surface distances)."""

import warnings

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from fetalflex.quality.bootstrap import Floats
from fetalflex.quality.control.judgement import Judgement


def boundary_distances(judged: Judgement) -> tuple[Floats, Floats]:
    """Return the mean surface distance and the 95th percentile of both directions, mm: float64 [N, K] each.

    NaN where no shape was asked, nothing of it is seen, or the image has no spacing. Outlines are resolved to a pixel.
    Source: symmetric average surface distance and HD95 as in Maier-Hein et al. 2024 (Metrics reloaded).
    """
    mean, high = np.full(judged.wanted.shape, np.nan), np.full(judged.wanted.shape, np.nan)
    for n, k in zip(*np.nonzero(judged.wanted), strict=True):
        seen, asked = judged.seen[n, k], judged.asked[n, k]
        if not np.isfinite(judged.mm[n]) or not seen.any() or not asked.any():
            continue
        pair = [torch.from_numpy(m)[None, None].float() for m in (seen, asked)]
        options = {"include_background": True, "spacing": float(judged.mm[n])}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 passes an option that it has deprecated itself
            mean[n, k] = float(compute_average_surface_distance(*pair, symmetric=True, **options))
            high[n, k] = float(compute_hausdorff_distance(*pair, percentile=95, **options))
    return mean, high
