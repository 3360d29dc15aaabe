"""Abnormal plans: ground truth with the severity that was asked, made of the same parameters as normal ones."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fetalflex.anatomy.anomalies import ANOMALIES, measure_anomaly
from fetalflex.anatomy.editing import Setting
from fetalflex.anatomy.layout import Layout, LayoutObject, mask_box
from fetalflex.anatomy.ontology import structure
from fetalflex.errors import AnomalyError, LayoutError
from fetalflex.phantom.acoustics import image_scene
from fetalflex.phantom.devices import DEVICES
from fetalflex.phantom.planes import PLANS, SHOWN
from fetalflex.phantom.scene import Scene, make_scene
from fetalflex.rng import generator

SIZE = 320
CASES = [
    ("transventricular", "ventriculomegaly", 10.5, 0.6), ("transventricular", "ventriculomegaly", 14.0, 0.6),
    ("transventricular", "ventriculomegaly", 18.0, 0.6), ("transventricular", "microcephaly", -4.0, 0.2),
    ("transventricular", "macrocephaly", 3.0, 0.2), ("transthalamic", "dolichocephaly", 66.0, 0.7),
    ("transventricular", "choroid-plexus-cyst", 6.0, 0.6), ("transcerebellar", "enlarged-cisterna-magna", 12.0, 0.6),
    ("abdomen", "double-bubble", 12.0, 0.6), ("abdomen", "omphalocele", 30.0, 0.8),
    ("kidneys", "hydronephrosis", 12.0, 0.6),
    ("four-chamber", "cardiomegaly", 0.65, 0.01), ("thorax", "cardiomegaly", 0.6, 0.01),
    ("four-chamber", "ventricular-septal-defect", 4.0, 0.6),
    ("four-chamber", "atrioventricular-septal-defect", 7.0, 0.6),
    ("femur", "short-femur", -5.0, 0.4), ("femur", "bowed-femur", 40.0, 4.0), ("face-lips", "cleft-lip", 3.0, 0.4),
]  # fmt: skip
ABSENT = [
    ("transventricular", "absent-csp", "csp"), ("abdomen", "absent-stomach", "stomach"),
    ("four-chamber", "single-ventricle", "right-ventricle"), ("transcerebellar", "absent-csp", "csp"),
]  # fmt: skip


def masks_of(scene: Scene, room: float = 2.4) -> tuple[dict[str, np.ndarray], float]:
    side = room * max(scene.anatomy.half)
    grid = (np.arange(SIZE) + 0.5) * side / SIZE - side / 2
    return scene.masks(*np.meshgrid(grid + scene.centre[0], grid + scene.centre[1])), side


@pytest.mark.parametrize("weeks", [22.0, 30.0])
@pytest.mark.parametrize(("plane", "name", "severity", "slack"), CASES)
def test_masks_measure_the_severity_that_was_asked(
    plane: str, name: str, severity: float, slack: float, weeks: float
) -> None:
    for seed in range(2):
        masks, side = masks_of(make_scene(plane, weeks, generator(seed, name), (name, severity)))
        objects = tuple(LayoutObject(n, mask_box(m, side), m) for n, m in masks.items() if m.any())
        layout = Layout(plane, "mm", side, objects, None, weeks)
        assert measure_anomaly(layout, name, Setting(1.0, weeks)) == pytest.approx(severity, abs=slack)


@pytest.mark.parametrize(("plane", "name", "gone"), ABSENT)
def test_what_is_absent_has_no_mask(plane: str, name: str, gone: str) -> None:
    masks, _ = masks_of(make_scene(plane, 24.0, generator(1), (name, 1.0)))
    normal, _ = masks_of(make_scene(plane, 24.0, generator(1)))
    assert gone not in masks
    assert set(masks) == set(normal) - {gone}


@pytest.mark.parametrize("plane", PLANS)
def test_normal_scenes_hold_nothing_abnormal(plane: str) -> None:
    masks, _ = masks_of(make_scene(plane, 24.0, generator(1)))
    assert all(structure(name).seen_normally for name in masks)


def test_every_anomaly_is_shown_on_some_plane_and_no_other_is() -> None:
    assert {name for names in SHOWN.values() for name in names} == set(ANOMALIES)
    assert set(SHOWN) == set(PLANS)
    for plane, names in SHOWN.items():
        assert all(plane in ANOMALIES[name].planes for name in names)
    with pytest.raises(AnomalyError, match="cannot show 'cleft-lip'"):
        make_scene("femur", 24.0, generator(1), ("cleft-lip", 3.0))
    with pytest.raises(LayoutError, match="no room"):
        make_scene("transventricular", 18.0, generator(1), ("ventriculomegaly", 25.0))


def test_all_but_the_anomaly_comes_from_the_same_parameters() -> None:
    normal = make_scene("abdomen", 24.0, generator(3))
    double = make_scene("abdomen", 24.0, generator(3), ("double-bubble", 12.0))
    one, other = masks_of(normal)[0], masks_of(double)[0]
    for name in ("abdomen", "stomach", "spine"):
        np.testing.assert_array_equal(one[name], other[name])
    assert (normal.centre, normal.angle, normal.depth_mm) == (double.centre, double.angle, double.depth_mm)


def test_embedded_centers_never_ask_for_an_anomaly() -> None:
    text = Path(make_scene.__code__.co_filename).with_name("center.py").read_text()
    assert "make_scene(plane, patient.weeks, rng)" in text
    assert text.count("make_scene(") == 1


# Pixels and masks of the four embedded planes, as they were when the demo's centers were first made.
HASHES = {
    "transventricular/curved-a": "ea3cdb46a694a56a",
    "transventricular/curved-b": "d4e6713e5ecaaf68",
    "abdomen/curved-a": "358babb382c1dbd1",
    "abdomen/curved-b": "3931c4ba2a8c1dc6",
    "four-chamber/curved-a": "7ded7e32a7df4442",
    "four-chamber/curved-b": "52dcb7627eb94056",
    "femur/curved-a": "c87a14ccc1c22251",
    "femur/curved-b": "c86b41ea94826c4f",
}


@pytest.mark.parametrize("case", HASHES)
def test_embedded_planes_stay_as_they_are_byte_for_byte(case: str) -> None:
    plane, name = case.split("/")
    rng = generator(7, plane, name)
    picture = image_scene(make_scene(plane, 24.0, rng), DEVICES[name], rng)
    digest = hashlib.sha256()
    for structure_name in sorted(picture.masks):
        digest.update(structure_name.encode() + picture.masks[structure_name].tobytes())
    assert digest.hexdigest()[:16] == HASHES[case]
