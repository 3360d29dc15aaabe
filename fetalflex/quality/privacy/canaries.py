"""Canaries: known training images, plain and altered, are looked up like synthetic ones. A silent filter means nothing.

Of each alteration two figures: how many canaries are flagged (recall), and how many real images of held-out patients,
altered in the same way, are flagged too (false alarms).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import LEVEL, Array
from fetalflex.quality.privacy.alterations import ALTERATIONS, Alteration
from fetalflex.quality.privacy.nearest import Gallery, Search
from fetalflex.quality.thumbnails import Images
from fetalflex.rng import generator

ENOUGH_HELD_OUT = 300  # to measure a rate near 1 %


@dataclass(frozen=True)
class Canary:
    """One alteration: `recall` over n canaries (95 %, Clopper-Pearson); false alarms over n_held_out real images.

    `named`: share of the canaries for which the flagged image is the source itself, or another of its patient.
    """

    alteration: str
    n: int
    recall: float
    low: float
    high: float
    named: float
    n_held_out: int
    false_alarms: float
    false_alarms_low: float
    false_alarms_high: float


def plant(search: Search, held_out: Images, count: int, seed: int) -> tuple[Canary, ...]:
    """Return one Canary per alteration: `count` training images, each of another patient as far as possible.

    Raises: TooFewCasesError where `count` or the held-out images are none.
    """
    if count < 1 or not len(held_out):
        raise TooFewCasesError(
            f"canaries: {count} planted, {len(held_out)} held-out images; expected at least one each"
        )
    chosen = spread_patients(search.training, count, generator(seed, "canaries"))
    return tuple(_measure(search, name, change, (chosen, held_out), seed) for name, change in ALTERATIONS.items())


def canary_recall(canaries: tuple[Canary, ...]) -> float:
    """Return the recall over all canaries of all alterations; NaN where there are none."""
    total = sum(c.n for c in canaries)
    return sum(c.recall * c.n for c in canaries) / total if total else float("nan")


def spread_patients(gallery: Gallery, count: int, random: np.random.Generator) -> Array:
    """Return `count` positions at random, one of each patient before a second of any."""
    order = random.permutation(len(gallery))
    turn = np.zeros(len(gallery), np.int64)
    seen: dict[str, int] = {}
    for i in order:
        patient = str(gallery.patients[i])
        turn[i] = seen.get(patient, 0)
        seen[patient] = turn[i] + 1
    return order[np.argsort(turn[order], kind="stable")][:count]


def _measure(search: Search, name: str, change: Alteration, images: tuple[Array, Images], seed: int) -> Canary:
    chosen, held_out = images
    found = search.find(altered(search.training.images[chosen], change, _seeded(seed, name, "canary")))
    others = search.find(altered(held_out, change, _seeded(seed, name, "held out")))
    patients = search.training.patients
    named = found.near_copy & (patients[found.by_detail] == patients[chosen])
    recall, low, high = _share(found.near_copy)
    return Canary(name, len(chosen), recall, low, high, float(named.mean()), len(held_out), *_share(others.near_copy))


def altered(images: Images, change: Alteration, random: Callable[[int], np.random.Generator]) -> Images:
    """Return each image changed, with a generator of its own number."""
    return np.stack([change(image, random(i)) for i, image in enumerate(images)])


def _seeded(seed: int, *names: str) -> Callable[[int], np.random.Generator]:
    return lambda i: generator(seed, *names, i)


def _share(flags: Array) -> tuple[float, float, float]:
    """Return a share with its exact 95 % interval. Source: Clopper & Pearson 1934."""
    test = binomtest(int(flags.sum()), len(flags))
    interval = test.proportion_ci(LEVEL, method="exact")
    return float(flags.mean()), float(interval.low), float(interval.high)
