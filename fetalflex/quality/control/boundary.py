"""How far the outline that the judge sees lies from the asked one, in millimetres (MONAI's surface distances)."""

import warnings

import numpy as np
import torch

from fetalflex.imports import import_monai
from fetalflex.quality.bootstrap import Array, Floats
from fetalflex.quality.control.judgement import Judgement

_metrics = import_monai("monai.metrics.utils")


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
        mean[n, k], high[n, k] = _distances(seen, asked, float(judged.mm[n]))
    return mean, high


def _distances(seen: Array, asked: Array, mm: float) -> tuple[float, float]:
    """Return both figures of one pair of masks; MONAI's two metrics would each find edges and distances again."""
    pair = [torch.from_numpy(mask) for mask in (seen, asked)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 passes an option that it has deprecated itself
        _, ways, _ = _metrics.get_edge_surface_distance(*pair, spacing=mm, symmetric=True)
    forth, back = (np.asarray(way, np.float64) for way in ways)
    return float(np.concatenate([forth, back]).mean()), float(max(np.percentile(way, 95) for way in (forth, back)))
