"""Labelled images: what classifiers learn from and are tested on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.dataset import Cases
from fetalflex.rng import derive_seed

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Names = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images uint8 [N, S, S], labels str [N] (a plane, a finding), patients str [N] and centers str [N]."""

    images: Images
    labels: Names
    patients: Names
    centers: Names

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Any) -> "Labelled":
        """Return the images of these positions, or of a boolean mask."""
        return Labelled(*(getattr(self, f.name)[index] for f in fields(self)))

    def relabelled(self, labels: Any) -> "Labelled":
        """Return the same images with other labels [N], or with one label for all."""
        named = np.broadcast_to(np.asarray(labels, np.str_), len(self)).copy()
        return Labelled(self.images, named, self.patients, self.centers)


def of_cases(cases: Cases) -> Labelled:
    """Return real cases labelled by plane; patients' names are unique over centers."""
    planes = np.array([PLANE_NAMES[int(p)] for p in cases.planes], np.str_)
    centers = cases.centers.astype(np.str_)
    patients = np.char.add(np.char.add(centers, "/"), cases.patients.astype(np.str_))
    return Labelled(cases.images, planes, patients, centers)


def join(parts: Sequence[Labelled]) -> Labelled:
    """Return all images of the parts, in order."""
    return Labelled(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Labelled)))


def no_images(side: int) -> Labelled:
    """Return an empty set of images of a side."""
    empty = np.zeros(0, np.str_)
    return Labelled(np.zeros((0, side, side), np.uint8), empty, empty, empty)


def class_numbers(labels: Names, classes: Sequence[str]) -> Labels:
    """Return each label's number among the classes."""
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[str(label)] for label in labels], np.int64)


def some_patients(data: Labelled, share: float, seed: int) -> Labelled:
    """Return the images of a share of the patients, chosen by hash class by class (the rarest class first).

    A smaller share is a subset of a larger one. Of every class at least one patient stays.
    """
    if share >= 1:
        return data
    kept: set[str] = set()
    names, counts = np.unique(data.labels, return_counts=True)
    for name in names[np.argsort(counts, kind="stable")]:
        here = sorted({str(p) for p in data.patients[data.labels == name]}, key=lambda p: derive_seed(seed, "shots", p))
        kept |= set(here[: max(1, round(share * len(here)))])
    return data.take(np.isin(data.patients, sorted(kept)))
