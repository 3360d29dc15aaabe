"""Anomaly by distance to the nearest normal features: of whole images, and patch by patch over a thinned-out memory.

Source: Roth et al. 2022, PatchCore (arXiv 2106.08265): patches of an inner layer averaged over their surroundings, a
memory thinned by greedy k-centre selection, an image's score its most distant patch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter
from sklearn.neighbors import NearestNeighbors

Floats = npt.NDArray[np.float32]
_PROJECTED = 64


def nearest_distances(asked: Floats, known: Floats, neighbours: int = 3) -> Floats:
    """Return the mean distance of features [N, D] to their nearest known ones [M, D]: float32 [N]."""
    if not len(asked):
        return np.zeros(0, np.float32)
    index = NearestNeighbors(n_neighbors=min(neighbours, len(known))).fit(known)
    found: Floats = index.kneighbors(asked)[0].mean(1).astype(np.float32)
    return found


@dataclass(frozen=True, eq=False)
class PatchMemory:
    """Normal patches [M, D] that stand for all."""

    patches: Floats

    @staticmethod
    def of(maps: Floats, size: int, rng: np.random.Generator) -> "PatchMemory":
        """Keep `size` patches of normal feature maps [N, D, h, w], each as far as can be from those kept before."""
        patches = as_patches(maps).reshape(-1, maps.shape[1])
        return PatchMemory(patches[k_centres(patches, size, rng)])

    def heat(self, maps: Floats) -> Floats:
        """Return each patch's distance to the nearest normal one: float32 [N, h, w]."""
        patches = as_patches(maps)
        flat = nearest_distances(patches.reshape(-1, maps.shape[1]), self.patches, 1)
        return flat.reshape(patches.shape[:3])


def as_patches(maps: Floats) -> Floats:
    """Return feature maps [N, D, h, w] averaged over 3 x 3 neighbours, as [N, h, w, D]."""
    near: Floats = uniform_filter(maps, (0, 0, 3, 3), mode="nearest")
    return near.transpose(0, 2, 3, 1)


def k_centres(points: Floats, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return positions of at most `size` points, greedily far apart, measured in a random projection."""
    if len(points) <= size:
        return np.arange(len(points))
    width = min(_PROJECTED, points.shape[1])
    seen = points @ (rng.standard_normal((points.shape[1], width)) / np.sqrt(width)).astype(np.float32)
    chosen = [int(rng.integers(len(points)))]
    distance = np.full(len(points), np.inf, np.float32)
    for _ in range(size - 1):
        distance = np.minimum(distance, ((seen - seen[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen, np.int64)
