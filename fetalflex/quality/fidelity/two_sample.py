"""Can a classifier tell synthetic from real images? Its area under the ROC curve on patients that it has not seen.

0.5: it cannot. A linear classifier (ridge regression on features in units of their deviation), so that a few hundred
images are enough; a distance can be small where this is not: one direction that all synthetic images share is found.
Source: Lopez-Paz & Oquab 2017, Revisiting Classifier Two-Sample Tests (ICLR).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fetalflex.quality.bootstrap import Array, Floats, cluster_numbers
from fetalflex.quality.fidelity.sample import Sample

FOLDS = 5
MOST_SEEN = 1000  # images a side: more make the classifier a little better and the comparison of pairs slow


@dataclass(frozen=True, eq=False)
class TwoSample:
    """How synthetic each image looks to a classifier that was fitted on others: real float64 [N], synthetic [M]."""

    real: Floats
    synthetic: Floats

    def value(self) -> float:
        """Return the area under the ROC curve, 0 to 1."""
        return float(self._above().mean())

    def drawn(self, real: Array, synthetic: Array) -> Floats:
        """Return the area for each draw, images counted as often as drawn: int [draws, N] and [draws, M]."""
        pairs = ((real @ self._above()) * synthetic).sum(1)
        found: Floats = pairs / (real.sum(1) * synthetic.sum(1))
        return found

    def _above(self) -> Floats:
        """Return 1 where a synthetic image [M] has more than a real one [N], half for equals: [N, M]."""
        above = self.synthetic[None] > self.real[:, None]
        return above + 0.5 * (self.synthetic[None] == self.real[:, None])


def two_sample(real: Sample, synthetic: Sample, random: np.random.Generator) -> TwoSample:
    """Return each image's score by a classifier fitted without its patient. Needs `FOLDS` patients a side."""
    rows = np.concatenate([real.features, synthetic.features]).astype(np.float64)
    made = np.repeat([0.0, 1.0], [len(real), len(synthetic)])
    folds = np.concatenate([_folds(side, random) for side in (real, synthetic)])
    scores = np.empty(len(rows))
    for fold in range(FOLDS):
        here = folds == fold
        # As strong as there are features: of a thousand nearly equal directions each keeps little.
        classifier = make_pipeline(StandardScaler(), Ridge(alpha=rows.shape[1]))
        # Each kind weighs the same, however many images it has.
        weight = np.where(made[~here] == 1, 0.5 / made[~here].mean(), 0.5 / (1 - made[~here].mean()))
        classifier.fit(rows[~here], made[~here], ridge__sample_weight=weight)
        scores[here] = classifier.predict(rows[here])
    return TwoSample(scores[: len(real)], scores[len(real) :])


def _folds(side: Sample, random: np.random.Generator) -> Array:
    """Return each image's fold, 0 to `FOLDS` - 1; the images of a patient are in one."""
    numbers = cluster_numbers(side.clusters)
    turn = random.permutation(int(numbers.max()) + 1)
    return np.asarray(turn[numbers] % FOLDS)
