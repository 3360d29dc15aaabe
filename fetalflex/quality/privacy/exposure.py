"""What a single patient risks: how near synthetic images come to any image of theirs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fetalflex.quality.privacy.nearest import Gallery, Nearest

SHOWN = 20


@dataclass(frozen=True)
class Exposed:
    """One training patient, named by the case (a keyed hash) that is most alike to a synthetic image.

    `images`: synthetic images that are most alike to one of the patient's; `copies`: those that are near-copies;
    `correlation`: the highest.
    """

    case_id: str
    images: int
    copies: int
    correlation: float


@dataclass(frozen=True)
class Exposure:
    """Of `patients` training patients, how many have a near-copy, how many are the nearest of any; the most exposed.

    `most_images`: the largest number of synthetic images that one patient is nearest to.
    """

    patients: int
    with_copy: int
    touched: int
    most_images: int
    highest: tuple[Exposed, ...]


def exposure(training: Gallery, nearest: Sequence[Nearest]) -> Exposure:
    """Return each patient's exposure, the most exposed first."""
    owner = {str(case): str(patient) for case, patient in zip(training.ids, training.patients, strict=True)}
    by_patient: dict[str, list[Nearest]] = {}
    for item in nearest:
        by_patient.setdefault(owner[item.correlated_case], []).append(item)
    found = []
    for items in by_patient.values():
        top = max(items, key=lambda n: (n.correlation, n.image_id))
        found.append(Exposed(top.correlated_case, len(items), sum(n.near_copy for n in items), top.correlation))
    found.sort(key=lambda e: (-e.correlation, e.case_id))
    return Exposure(
        len(np.unique(training.patients)),
        sum(e.copies > 0 for e in found),
        len(found),
        max((e.images for e in found), default=0),
        tuple(found[:SHOWN]),
    )
