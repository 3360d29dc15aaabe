"""Membership inference: can one tell from the synthetic images alone who was in training? 0.5 is a coin.

The attacker holds an image and asks how near the synthetic ones come to it. `distance` takes the distance to the
nearest synthetic image; `calibrated` subtracts that to the nearest of other real images of nobody in training, so that
an image which is near to everything is no evidence.
Source: Chen et al., GAN-Leaks, CCS 2020 (arXiv 1909.03935), sections 4 and 5.
"""

from dataclasses import dataclass

import numpy as np

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Array, Floats, patient_draws, percentile_interval
from fetalflex.quality.fidelity.sample import Sample
from fetalflex.rng import generator


@dataclass(frozen=True)
class Membership:
    """An attack's AUC with its 95 % interval over patients; n_members training images, n_others held out."""

    attack: str
    auc: float
    low: float
    high: float
    n_members: int
    n_others: int


def membership_inference(
    members: Sample, others: Sample, synthetic: Array, reference: Array | None, *, bootstrap: int, seed: int
) -> tuple[Membership, ...]:
    """Return both attacks (the first alone without a reference). All features are unit rows [N, D] of one encoder.

    Raises: TooFewCasesError for an empty side.
    """
    for name, side in (("training", members), ("held-out", others), ("synthetic", synthetic)):
        if not len(side):
            raise TooFewCasesError(f"membership: no {name} image; expected at least one")
    scores = {"distance": [-_distance(s.features, synthetic) for s in (members, others)]}
    if reference is not None and len(reference):
        scores["calibrated"] = [
            _distance(s.features, reference) + own for s, own in zip((members, others), scores["distance"], strict=True)
        ]
    return tuple(_attack(name, found, (members, others), bootstrap, seed) for name, found in scores.items())


def _attack(name: str, scores: list[Floats], sides: tuple[Sample, Sample], bootstrap: int, seed: int) -> Membership:
    above = scores[0][:, None] - scores[1][None, :]
    wins = (np.sign(above) + 1) / 2  # a tie is half a win
    draws = [
        patient_draws(side.clusters, bootstrap, generator(seed, "membership", name, i)) for i, side in enumerate(sides)
    ]
    drawn = np.einsum("bi,ij,bj->b", draws[0], wins, draws[1], optimize=True)
    found = percentile_interval(float(wins.mean()), drawn / (draws[0].sum(1) * draws[1].sum(1)))
    return Membership(name, found.value, found.low, found.high, len(scores[0]), len(scores[1]))


def _distance(rows: Array, to: Array) -> Floats:
    """Return the cosine distance of each unit row to the nearest of the others, block by block."""
    parts = [1 - (rows[i : i + 1024] @ to.T).max(1) for i in range(0, len(rows), 1024)]
    return np.concatenate(parts).astype(np.float64)
