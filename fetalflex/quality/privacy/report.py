"""All that is said of privacy: copies, what the search for them is worth, membership, exposure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from fetalflex.quality.bootstrap import LEVEL
from fetalflex.quality.fidelity.sample import Sample
from fetalflex.quality.privacy.canaries import ENOUGH_HELD_OUT, Canary, canary_recall, plant
from fetalflex.quality.privacy.exposure import Exposure, exposure
from fetalflex.quality.privacy.membership import Membership, membership_inference
from fetalflex.quality.privacy.nearest import LEAST_STRANGERS, Gallery, Nearest, Search, nearest_training
from fetalflex.quality.thumbnails import Images

SHOWN_PAIRS = 12
MOST_HELD_OUT = 600  # held-out images that set the limit, and that are looked up altered; more tell nothing new


@dataclass(frozen=True)
class Privacy:
    """The privacy part of `reports/quality.json`.

    `near_copy_fraction` with its exact 95 % interval; `canary_recall` over all canaries, `false_alarms` the share of
    unaltered held-out images that are flagged; `limit` is the correlation of a near-copy, set on other held-out
    patients; `membership_auc` is the strongest attack's. `nearest`: the 12 most alike.
    """

    n: int
    n_training: int
    near_copies: int
    near_copy_fraction: float
    near_copy_low: float
    near_copy_high: float
    limit: float
    canary_recall: float
    lowest_recall: float
    false_alarms: float
    canaries: tuple[Canary, ...]
    membership_auc: float
    membership: tuple[Membership, ...]
    exposure: Exposure
    nearest: tuple[Nearest, ...]
    warning: str


def assess(
    search: Search,
    synthetic: tuple[Images, Sequence[str]],
    held_out: tuple[Gallery, Gallery],
    *,
    canaries: int,
    bootstrap: int,
    seed: int,
) -> tuple[tuple[Nearest, ...], Privacy]:
    """Return each synthetic image's nearest training images, and the report.

    synthetic: images uint8 [M, S, S] and their identifiers. held_out: real images of test and of judge patients; the
    first stand for strangers in the attack, the second are what the attacker compares with.
    Raises: TooFewCasesError where there is no synthetic, training or test image.
    """
    calibrating, strangers = halves(held_out)
    search.calibrate(calibrating)
    planted = plant(search, strangers, canaries, seed)
    nearest = nearest_training(search, synthetic[0], np.array(synthetic[1]))
    attacks = _attacks(search, synthetic[0], held_out, bootstrap, seed)
    copies = sum(item.near_copy for item in nearest)
    interval = binomtest(copies, len(nearest)).proportion_ci(LEVEL, method="exact")
    ranked = sorted(nearest, key=lambda item: (-item.correlation, item.image_id))
    plain = planted[0]
    return nearest, Privacy(
        n=len(nearest), n_training=len(search.training), near_copies=copies, near_copy_fraction=copies / len(nearest),
        near_copy_low=float(interval.low), near_copy_high=float(interval.high), limit=search.limit,
        canary_recall=canary_recall(planted), lowest_recall=min(c.recall for c in planted),
        false_alarms=plain.false_alarms, canaries=planted,
        membership_auc=max(a.auc for a in attacks), membership=attacks,
        exposure=exposure(search.training, nearest), nearest=tuple(ranked[:SHOWN_PAIRS]), warning=_warning(planted),
    )  # fmt: skip


def halves(held_out: tuple[Gallery, Gallery]) -> tuple[Images, Images]:
    """Return the images that set the limit, and those of other patients that tell how often it errs: all, if few."""
    images = np.concatenate([g.images for g in held_out])
    patients = np.concatenate([g.patients for g in held_out])
    if len(images) < 2 * LEAST_STRANGERS:
        return images[:0], images
    first = np.isin(patients, np.unique(patients)[::2])
    return _spread(images[first]), _spread(images[~first])


def _spread(images: Images) -> Images:
    """Return evenly spread images, so that both groups of held-out patients are met."""
    return images[sorted({int(i) for i in np.linspace(0, len(images) - 1, min(len(images), MOST_HELD_OUT))})]


def _attacks(
    search: Search, synthetic: Images, held_out: tuple[Gallery, Gallery], bootstrap: int, seed: int
) -> tuple[Membership, ...]:
    members = Sample(search.features, search.training.patients)
    test, judge = (g if len(g) else None for g in held_out)
    others = test if test is not None else held_out[1]
    reference = search.encode(judge.images) if test is not None and judge is not None else None
    outside = Sample(search.encode(others.images), others.patients)
    return membership_inference(members, outside, search.encode(synthetic), reference, bootstrap=bootstrap, seed=seed)


def _warning(planted: tuple[Canary, ...]) -> str:
    parts = []
    if planted[0].n_held_out < ENOUGH_HELD_OUT:
        parts.append(
            f"false alarms are measured on {planted[0].n_held_out} held-out images; {ENOUGH_HELD_OUT} tell 1 % from 2 %"
        )
    if planted[0].n < ENOUGH_HELD_OUT:
        parts.append(f"recall is measured on {planted[0].n} canaries of each alteration")
    return "; ".join(parts)
