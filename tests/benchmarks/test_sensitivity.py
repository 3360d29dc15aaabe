"""Faults are injected as the table says: into so many images, and stronger from step to step."""

import numpy as np
import pytest

from benchmarks.sensitivity import Release, faults, verdict
from fetalflex.quality.summary import simple
from tests.fetalflex import tiny

CASES = tiny.cases(20)
CLEAN = Release(CASES.images, CASES, np.ones(20, bool))
TRAINING = tiny.cases(40).images[20:]


@pytest.mark.parametrize("name", ["blur", "noise", "wrong sector", "text"])
def test_a_stronger_fault_lies_further_from_the_clean_images(name):
    made = [change(CLEAN).images for change in faults(TRAINING)[name].strengths.values()]
    away = [np.abs(images.astype(float) - CLEAN.images).mean() for images in made]
    assert 0 < away[0] < away[1] < away[2]


@pytest.mark.parametrize(("name", "counts"), [("mode collapse", (5, 10, 20)), ("layout ignored", (5, 10, 20))])
def test_so_many_images_carry_the_fault(name, counts):
    made = [change(CLEAN) for change in faults(TRAINING)[name].strengths.values()]
    assert tuple(release.faulty.sum() for release in made) == counts
    for release in made:
        assert np.array_equal(release.images[~release.faulty], CLEAN.images[~release.faulty])
    if name == "mode collapse":
        assert len(np.unique(made[2].images, axis=0)) == 1


def test_copies_are_training_images_half_of_them_mirrored():
    release = faults(TRAINING)["training copies"].strengths["10% of images"](CLEAN)
    found = release.images[release.faulty]
    both = np.concatenate([TRAINING, TRAINING[:, :, ::-1]])
    assert [bool((both == image).all((1, 2)).any()) for image in found] == [True, True]


def test_the_verdict_names_what_the_gate_of_the_preset_base_misses():
    figures = [simple("kid", 0.3, (0.2, 0.4), 20, None)]
    said = verdict(figures, {"implausible": np.array([0.0, 1.0, 2.0])}, np.array([True, True, False]))
    assert said == "release: kid; 1 of 2 images"
