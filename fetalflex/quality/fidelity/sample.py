"""Features with the patient of each image: what every distance is measured on."""

from dataclasses import dataclass

import numpy as np

from fetalflex.quality.bootstrap import Array, cluster_numbers


@dataclass(frozen=True)
class Sample:
    """Features float [N, D] and the patient (or source case) of each image, str [N]."""

    features: Array
    clusters: Array

    def __len__(self) -> int:
        return len(self.features)

    def take(self, index: Array) -> "Sample":
        """Return the images of these positions (or of a boolean mask)."""
        return Sample(self.features[index], self.clusters[index])

    def at_most(self, count: int, rng: np.random.Generator) -> "Sample":
        """Return the sample, or `count` images of it, whole patients in random order."""
        return self if len(self) <= count else self.take(np.sort(whole_patients(self.clusters, count, rng)))


def whole_patients(clusters: Array, count: int, rng: np.random.Generator) -> Array:
    """Return `count` positions, patient by patient in random order (the last patient may be cut)."""
    numbers = cluster_numbers(clusters)
    order = rng.permutation(int(numbers.max()) + 1)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.argsort(rank[numbers], kind="stable")[:count]
