"""One side of a comparison, real or synthetic: everything that is measured of its images, image by image."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fetalflex.quality.bootstrap import Array, Floats
from fetalflex.quality.fidelity.sample import Sample, whole_patients
from fetalflex.rng import generator


@dataclass(frozen=True, eq=False)
class Side:
    """N images. images: uint8 [N, S, S]; features: encoder -> [N, D]; looks: [N, L] (`fidelity.looks`); text [N].

    `clusters`: the patient, or of a synthetic image the case that gave its layout.
    """

    images: npt.NDArray[np.uint8]
    features: Mapping[str, Array]
    looks: Floats
    clusters: Array
    planes: Array
    centers: Array
    _subsets: dict[tuple[object, ...], "Side"] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.clusters)

    def take(self, index: Array) -> "Side":
        """Return the images of these positions (or of a boolean mask)."""
        features = {name: rows[index] for name, rows in self.features.items()}
        return Side(
            self.images[index], features, self.looks[index], self.clusters[index], self.planes[index],
            self.centers[index],
        )  # fmt: skip

    def subset(self, count: int, seed: int, *names: object) -> "Side":
        """Return the side, or `count` images of it, whole patients in random order; the same object when asked again.

        So measures that share their sides can share their work.
        """
        if len(self) <= count:
            return self
        key = (count, seed, *names)
        if key not in self._subsets:
            chosen = whole_patients(self.clusters, count, generator(seed, *map(str, names)))
            self._subsets[key] = self.take(np.sort(chosen))
        return self._subsets[key]

    def apart_from(self, other: "Side") -> "Side":
        """Return the images of patients that the other side does not have."""
        return self.take(~np.isin(self.clusters, other.clusters))

    def sample(self, encoder: str) -> Sample:
        """Return the features of one encoder with the patients."""
        return Sample(self.features[encoder], self.clusters)


def standardised(real: Array, *others: Array) -> tuple[Array, ...]:
    """Return feature sets in standard deviations of the real ones, about their mean; what never varies becomes 0."""
    mean, deviation = real.mean(0, dtype=np.float64), real.std(0, dtype=np.float64)
    varies = deviation > 1e-9
    unit = np.where(varies, deviation, 1.0)
    return tuple(((rows - mean) / unit * varies).astype(np.float32) for rows in (real, *others))
