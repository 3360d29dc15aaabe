"""Cases that travel: packed and unpacked alike, without what stays at home."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from benchmarks.packed import for_training, join, pack, phantom_case, unpack, wide_phantoms
from fetalflex.anatomy.anomalies import measure_anomaly
from fetalflex.anatomy.ontology import structure_index
from fetalflex.dataset import EXPERT, PREDICTED, Cases


def some() -> Cases:
    return join([phantom_case("transventricular", "phantom-a", n, 32) for n in (0, 3, 4)])


def test_what_is_packed_comes_out_alike(tmp_path: Path) -> None:
    cases = some()
    pack(cases, tmp_path / "cases.zip")
    read = unpack(tmp_path / "cases.zip")
    for item in fields(Cases):
        assert np.array_equal(getattr(read, item.name), getattr(cases, item.name)), item.name


def test_test_images_and_guesses_for_training_stay_at_home() -> None:
    cases = some()
    assert cases.groups.tolist() == ["train", "judge", "test"]
    k = structure_index("csp")
    cases.sources[:, k] = PREDICTED
    sent = for_training(cases)
    assert not sent.images[2].any()
    assert sent.images[:2].any()
    assert sent.sources[:, k].tolist() == [0, 0, PREDICTED]
    assert not sent.masks[:2, k].any()
    assert np.array_equal(sent.masks[2], cases.masks[2])
    assert (sent.sources == EXPERT).sum() == (cases.sources == EXPERT).sum()


def test_wide_scenes_are_wide_and_of_the_judges_group_alone() -> None:
    scenes = wide_phantoms(2, 128)
    assert set(scenes.groups) == {"judge"}
    measured = np.array([measure_anomaly(scenes.layout(i), "ventriculomegaly") for i in range(len(scenes))])
    asked = np.array([11.0, 20.0] * 2)[: len(measured)]  # pixels of 1.2 to 1.5 mm: an edge is known to one of them
    assert (np.abs(measured - asked) < 2.5).all()
