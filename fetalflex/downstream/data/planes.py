"""The first task: which standard plane does an image show?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.downstream.data.labelled import Labelled, Names
from fetalflex.errors import TooFewCasesError

MIN_TEST_IMAGES, MIN_TEST_PATIENTS, MIN_TRAIN_IMAGES = 5, 3, 5
# A plane "not stated" contains the stated ones: as separate classes they would tell centers apart, not planes.
UNSTATED = {"brain": ("transventricular", "transthalamic", "transcerebellar"), "thorax": ("four-chamber",)}


@dataclass(frozen=True, eq=False)
class PlaneTask:
    """Images labelled by plane; only planes that can be tested. `left_out`: [{plane, test, patients, train}].

    `unseen`: real images of patients in neither training nor test, for the positive control.
    """

    classes: tuple[str, ...]
    real: Labelled
    synthetic: Labelled
    test: Labelled
    unseen: Labelled
    left_out: tuple[dict[str, Any], ...] = ()


def plane_task(real: Labelled, synthetic: Labelled, test: Labelled, unseen: Labelled) -> PlaneTask:
    """Choose the planes with enough images and patients; unite stated planes with their unstated parent.

    Raises: TooFewCasesError where fewer than two planes remain, or a test patient is also in training.
    """
    check_apart(test, real, unseen)
    parent = parents(set(real.labels) | set(test.labels))
    parts = [part.relabelled(united(part.labels, parent)) for part in (real, synthetic, test, unseen)]
    kept: list[str] = []
    left_out: list[dict[str, Any]] = []
    for plane in PLANE_NAMES:
        here, train = parts[2].labels == plane, int((parts[0].labels == plane).sum())
        images, patients = int(here.sum()), len(np.unique(test.patients[here]))
        enough = images >= MIN_TEST_IMAGES and patients >= MIN_TEST_PATIENTS and train >= MIN_TRAIN_IMAGES
        if enough and plane != "unknown":
            kept.append(plane)
        elif images or train:
            left_out.append({"plane": plane, "test": images, "patients": patients, "train": train})
    if len(kept) < 2:
        raise TooFewCasesError(
            f"evaluate: {len(kept)} planes have {MIN_TEST_IMAGES} test images of {MIN_TEST_PATIENTS} patients and "
            f"{MIN_TRAIN_IMAGES} training images; expected at least 2. Add cases or raise data.test_fraction"
        )
    chosen = [part.take(np.isin(part.labels, kept)) for part in parts]
    return PlaneTask(tuple(kept), chosen[0], chosen[1], chosen[2], chosen[3], tuple(left_out))


def check_apart(test: Labelled, *others: Labelled) -> None:
    """Raises: TooFewCasesError where a test patient is among the others."""
    shared = np.intersect1d(np.concatenate([other.patients for other in others]), test.patients)
    if len(shared):
        raise TooFewCasesError(f"evaluate: {len(shared)} test patients are also in training; expected none")


def parents(seen: set[str]) -> dict[str, str]:
    """Return stated plane -> unstated plane, for the unstated planes that occur."""
    return {child: name for name, children in UNSTATED.items() if name in seen for child in children}


def united(planes: Names, parent: dict[str, str]) -> Sequence[str]:
    """Return planes with those that are part of an unstated one named like it."""
    return [parent.get(str(p), str(p)) for p in planes]
