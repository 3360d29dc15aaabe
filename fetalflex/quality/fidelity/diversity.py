"""How alike are samples to one another? Multi-scale SSIM of pairs, and distances of pairs in an encoder's features.

Pairs are of one plane and of two sources; lower MS-SSIM and larger feature distance mean more variety. Beside each
stands the same of real images: that is what variety is to be reached.
Source: Wang, Simoncelli & Bovik 2003 (MS-SSIM); Odena et al. 2017 (arXiv 1610.09585), section 4.2 (of pairs).
"""

import numpy as np
import numpy.typing as npt
import torch

from fetalflex.quality.bootstrap import Array, Floats

Images = npt.NDArray[np.uint8]
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of five scales, normalised where an image has room for fewer
_BATCH = 64


def draw_pairs(planes: Array, clusters: Array, count: int, random: np.random.Generator) -> Array:
    """Return up to `count` pairs of positions [P, 2], each of one plane and of two sources; no pair twice."""
    found: set[tuple[int, int]] = set()
    for _ in range(20 * count):
        if len(found) == count or len(planes) < 2:
            break
        i, j = sorted(int(v) for v in random.choice(len(planes), 2, replace=False))
        if planes[i] == planes[j] and clusters[i] != clusters[j]:
            found.add((i, j))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def ms_ssim(images: Images, pairs: Array) -> Floats:
    """Return the MS-SSIM of pairs [P, 2] of images uint8 [N, S, S]: float64 [P], 1 where two are equal.

    With windows of 11 pixels an image of 64 has room for three scales, one of 176 for all five.
    """
    # Not above: torchmetrics imports transformers, and MONAI, where it finds that imported, all that builds on it.
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    side = images.shape[1]
    scales = max(1, min(len(BETAS), int(np.log2(side / 11)) + 1))
    betas = tuple(b / sum(BETAS[:scales]) for b in BETAS[:scales])
    values = [np.zeros(0)]
    for start in range(0, len(pairs), _BATCH):
        left, right = (torch.from_numpy(images[pairs[start : start + _BATCH, i]])[:, None].float() for i in (0, 1))
        value = multiscale_structural_similarity_index_measure(
            left, right, reduction="none", data_range=255.0, betas=betas, normalize="relu", kernel_size=11
        )
        values.append(np.atleast_1d(value.numpy().astype(np.float64)))
    return np.concatenate(values)


def feature_distance(features: Array, pairs: Array) -> Floats:
    """Return the Euclidean distance of pairs [P, 2] in features [N, D], over the root of D: float64 [P]."""
    gap = features[pairs[:, 0]].astype(np.float64) - features[pairs[:, 1]]
    return np.asarray(np.linalg.norm(gap, axis=1) / np.sqrt(features.shape[1]))
