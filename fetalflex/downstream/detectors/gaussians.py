"""Anomaly by Mahalanobis distance to a Gaussian of normal features at each place.

Source: Defard et al. 2021, PaDiM (arXiv 2011.08785): a random choice of channels, one Gaussian per place. Its fixed
0.01 on the diagonal is replaced by Ledoit and Wolf's shrinkage, which fits the number of images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PlaceGaussians:
    """Means [h, w, C] and inverse covariances [h, w, C, C] of the chosen channels [C]."""

    channels: npt.NDArray[np.int64]
    means: npt.NDArray[np.float64]
    precisions: npt.NDArray[np.float64]

    @staticmethod
    def of(maps: Floats, channels: int, rng: np.random.Generator) -> "PlaceGaussians":
        """Fit to normal feature maps [N, D, h, w]."""
        chosen = np.sort(rng.permutation(maps.shape[1])[:channels])
        h, w = maps.shape[2:]
        fits = [LedoitWolf().fit(maps[:, chosen, y, x].astype(np.float64)) for y in range(h) for x in range(w)]
        means = np.stack([fit.location_ for fit in fits]).reshape(h, w, -1)
        precisions = np.stack([fit.precision_ for fit in fits]).reshape(h, w, len(chosen), len(chosen))
        return PlaceGaussians(chosen, means, precisions)

    def heat(self, maps: Floats) -> Floats:
        """Return each place's Mahalanobis distance: float32 [N, h, w]."""
        away = maps[:, self.channels].transpose(0, 2, 3, 1) - self.means
        square = np.einsum("nhwc,hwcd,nhwd->nhw", away, self.precisions, away, optimize=True)
        return np.sqrt(np.maximum(square, 0)).astype(np.float32)
