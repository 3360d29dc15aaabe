"""Every anomaly, on layouts of the phantom: exact masks in mm at a known age."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy.anomalies import (
    ANOMALIES,
    apply_anomalies,
    apply_anomaly,
    measure_anomaly,
    urinary_tract_grade,
)
from fetalflex.anatomy.editing import setting_of
from fetalflex.anatomy.layout import Layout, LayoutObject, mask_box, rasterize
from fetalflex.anatomy.measure import region_of
from fetalflex.anatomy.ontology import PLANE_NAMES, STRUCTURE_NAMES, structure_index
from fetalflex.anatomy.ontology import plane as ontology_plane
from fetalflex.errors import AnomalyError
from fetalflex.phantom.planes import PLANS
from fetalflex.phantom.scene import make_scene
from fetalflex.rng import generator

SIZE = 128
PAIRS = [(a.name, p) for a in ANOMALIES.values() for p in a.planes if p in PLANS]
# What an edit may change beside its own structure: what moves with it, or must hold it.
MOVES = {
    "microcephaly": STRUCTURE_NAMES, "macrocephaly": STRUCTURE_NAMES, "dolichocephaly": STRUCTURE_NAMES,
    "cardiomegaly": ("left-ventricle", "right-ventricle", "left-atrium", "right-atrium"),
    "enlarged-cisterna-magna": ("cerebellum",), "hydronephrosis": ("kidney",), "single-ventricle": ("right-ventricle",),
}  # fmt: skip
PARENT = {
    "lateral-ventricle": "head", "choroid-plexus-cyst": "lateral-ventricle", "cisterna-magna": "head",
    "duodenum": "abdomen", "renal-pelvis": "kidney", "heart": "thorax", "septal-defect": "heart",
}  # fmt: skip


@cache
def phantom_layout(plane: str, weeks: float = 24.0, seed: int = 0, unit: str = "mm", room: float = 2.5) -> Layout:
    scene = make_scene(plane, weeks, generator(seed, plane))
    side = room * max(scene.anatomy.half)
    grid = (np.arange(SIZE) + 0.5) * side / SIZE - side / 2
    masks = scene.masks(*np.meshgrid(grid + scene.centre[0], grid + scene.centre[1]))
    extent = side if unit == "mm" else 1.0
    objects = tuple(LayoutObject(n, mask_box(m, extent), m) for n, m in masks.items())
    return Layout(plane, unit, extent, objects, None, weeks)


def pixel_in_unit(layout: Layout, name: str) -> float:
    """One pixel, in the unit of an anomaly's severity."""
    setting, pixel = setting_of(layout), layout.extent / SIZE
    if ANOMALIES[name].unit == "mm":
        return pixel * setting.millimetres
    from fetalflex.anatomy import biometry

    if ANOMALIES[name].unit == "SD":
        measure, around = ("fl", 1.0) if name == "short-femur" else ("hc", np.pi)
        return around * pixel * setting.millimetres / biometry.sd_mm(measure, setting.weeks)
    return {"%": 0.2, "ratio": 0.01, "degrees": 4.0, "present": 0.0}[ANOMALIES[name].unit]


@settings(deadline=None, max_examples=6)
@pytest.mark.parametrize(("name", "plane"), PAIRS)
@given(share=st.floats(0, 1), weeks=st.sampled_from([20.0, 24.0, 30.0]), unit=st.sampled_from(["mm", "image"]))
def test_the_severity_asked_is_the_severity_measured(
    name: str, plane: str, share: float, weeks: float, unit: str
) -> None:
    if plane == "face-lips" and unit == "image":
        unit = "mm"  # lips alone do not tell their size
    before = phantom_layout(plane, weeks, 1, unit, 4.0 if name == "omphalocele" else 2.5)
    low, high = ANOMALIES[name].severity
    # Up to half of the range: more has no room in every anatomy (see below).
    severity = low + share * 0.5 * (high - low) if low > 0 else high + share * 0.5 * (low - high)
    try:
        after = apply_anomaly(before, name, severity, generator(1))
    except AnomalyError as error:
        assert "room" in str(error) or "too short" in str(error)  # noqa: PT017 - a refusal is right, too
        assert share > 0.1, "the mildest must be possible"
        return
    assert measure_anomaly(after, name, setting_of(before)) == pytest.approx(
        severity, abs=pixel_in_unit(before, name) + 1e-9
    )
    for item in after.objects:  # all else is the very same
        if item.structure != ANOMALIES[name].structure and item.structure not in MOVES.get(name, ()):
            assert any(item is o for o in before.objects), item.structure
    structure = ANOMALIES[name].structure
    if structure in after.absent:
        assert after.find(structure) is None
        return
    assert any(o.edited for o in after.all(structure))
    parent = PARENT.get(structure)
    if parent is not None and after.find(parent) is not None:
        inside, around = region_of(after, structure), region_of(after, parent)
        assert (inside & ~around).sum() <= 0.06 * inside.sum() + 2, "it left its parent"


@pytest.mark.parametrize(("name", "plane"), PAIRS)
def test_leaves_the_normal_layout_and_its_json_readable(name: str, plane: str) -> None:
    before = phantom_layout(plane, 24.0, 2, "mm", 4.0 if name == "omphalocele" else 2.5)
    text = before.to_json()
    low, high = ANOMALIES[name].severity
    after = apply_anomaly(before, name, low if low > 0 else high, generator(1))
    assert before.to_json() == text
    again = Layout.from_json(after.to_json())
    assert again.to_json() == after.to_json()
    assert np.array_equal(rasterize(again, 64).maps, rasterize(after, 64).maps)


def test_there_are_twelve_and_more_on_four_planes_and_more() -> None:
    assert len(ANOMALIES) >= 12
    assert len({p for a in ANOMALIES.values() for p in a.planes}) >= 4
    for name, anomaly in ANOMALIES.items():
        assert name == anomaly.name
        assert anomaly.severity[0] <= anomaly.severity[1]
        assert len(anomaly.definition) > 15
        assert any(c.isdigit() for c in anomaly.source)
        assert set(anomaly.planes) <= set(PLANE_NAMES)
        for plane in anomaly.planes:
            assert {anomaly.structure, *anomaly.needs} <= set(ontology_plane(plane).structures)


@pytest.mark.parametrize("name", ANOMALIES)
def test_is_impossible_where_it_should_be(name: str) -> None:
    anomaly = ANOMALIES[name]
    plane = next(p for p in anomaly.planes if p in PLANS)
    layout, (low, high) = phantom_layout(plane), anomaly.severity
    other = "femur" if plane != "femur" else "abdomen"
    with pytest.raises(AnomalyError, match="cannot be shown on plane"):
        apply_anomaly(phantom_layout(other), name, low, generator(1))
    for severity in (low - 0.01, high + 0.01, float("nan")):
        with pytest.raises(AnomalyError, match="expected"):
            apply_anomaly(layout, name, severity, generator(1))
    for needed in anomaly.needs:
        without = Layout(
            plane, "mm", layout.extent, tuple(o for o in layout.objects if o.structure != needed), None, 24.0
        )
        with pytest.raises(AnomalyError, match=f"no '{needed}'"):
            apply_anomaly(without, name, low, generator(1))


@pytest.mark.parametrize(
    ("plane", "name", "severity", "message"),
    [
        ("abdomen", "double-bubble", 30.0, "no room for a bubble"),
        ("abdomen", "omphalocele", 80.0, "no room for a sac"),
        ("kidneys", "hydronephrosis", 30.0, "no room for so large a kidney"),
        ("four-chamber", "ventricular-septal-defect", 12.0, "too short"),
        ("transthalamic", "choroid-plexus-cyst", 15.0, "no room for 15 mm"),
        ("transcerebellar", "enlarged-cisterna-magna", 20.0, "no room"),
    ],
)
def test_refuses_what_has_no_room(plane: str, name: str, severity: float, message: str) -> None:
    with pytest.raises(AnomalyError, match=message):
        apply_anomaly(phantom_layout(plane, 19.0, 4), name, severity, generator(1))


@pytest.mark.parametrize(
    ("plane", "name", "severity"),
    [
        ("transthalamic", "ventriculomegaly", 14.0), ("transventricular", "microcephaly", -4.0),
        ("transventricular", "dolichocephaly", 68.0), ("abdomen", "double-bubble", 8.0),
        ("abdomen", "omphalocele", 12.0), ("four-chamber", "cardiomegaly", 0.62),
        ("four-chamber", "single-ventricle", 1.0), ("four-chamber", "ventricular-septal-defect", 3.0),
        ("femur", "short-femur", -4.0), ("abdomen", "absent-stomach", 1.0),
    ],
)  # fmt: skip
def test_boxes_are_enough(plane: str, name: str, severity: float) -> None:
    before = phantom_layout(plane, 24.0, 1, "mm", 4.0).boxes_only()
    after = apply_anomaly(before, name, severity, generator(1))
    assert measure_anomaly(after, name, setting_of(before)) == pytest.approx(severity, rel=0.06)
    assert all(o.mask is None for o in after.objects)


@pytest.mark.parametrize(("plane", "name"), [("femur", "bowed-femur"), ("face-lips", "cleft-lip")])
def test_says_where_a_box_is_not_enough(plane: str, name: str) -> None:
    with pytest.raises(AnomalyError, match="a box cannot be"):
        apply_anomaly(phantom_layout(plane).boxes_only(), name, ANOMALIES[name].severity[1] / 2, generator(1))


TWO = [
    ("transventricular", ("ventriculomegaly", 12.0), ("microcephaly", -3.5)),
    ("transventricular", ("absent-csp", 1.0), ("ventriculomegaly", 14.0)),
    ("transventricular", ("dolichocephaly", 70.0), ("choroid-plexus-cyst", 4.0)),
    ("transcerebellar", ("enlarged-cisterna-magna", 11.0), ("absent-csp", 1.0)),
    ("four-chamber", ("ventricular-septal-defect", 3.0), ("cardiomegaly", 0.6)),
    ("femur", ("bowed-femur", 30.0), ("short-femur", -4.0)),
    ("abdomen", ("omphalocele", 15.0), ("double-bubble", 8.0)),
]


@pytest.mark.parametrize(("plane", "one", "two"), TWO)
@pytest.mark.parametrize("unit", ["mm", "image"])
def test_two_at_once_are_the_same_in_any_order_and_both_measure_as_asked(
    plane: str, one: tuple[str, float], two: tuple[str, float], unit: str
) -> None:
    before = phantom_layout(plane, 26.0, 3, unit, 4.0 if plane == "abdomen" else 2.5)
    after = apply_anomalies(before, [one, two], generator(5))
    assert apply_anomalies(before, [two, one], generator(5)).to_json() == after.to_json()
    for name, severity in (one, two):
        slack = 2 * pixel_in_unit(before, name)  # the later edit may move the earlier one by a pixel
        assert measure_anomaly(after, name, setting_of(before)) == pytest.approx(severity, abs=slack + 1e-9), name


def test_one_after_the_other_is_the_same_where_they_touch_different_structures() -> None:
    before = phantom_layout("abdomen", 26.0, 3, "mm", 4.0)
    sac, bubble = ("omphalocele", 15.0), ("double-bubble", 8.0)
    results = []
    for order in ((sac, bubble), (bubble, sac)):
        layout = before
        for name, severity in order:
            layout = apply_anomaly(layout, name, severity, generator(1))
        results.append({o.structure: (o.box, o.shape) for o in layout.objects})
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("plane", "asked", "message"),
    [
        ("transventricular", [("microcephaly", -4.0), ("macrocephaly", 3.0)], "the head's size"),
        ("abdomen", [("absent-stomach", 1.0), ("double-bubble", 8.0)], "the stomach"),
        ("four-chamber", [("single-ventricle", 1.0), ("ventricular-septal-defect", 3.0)], "the ventricular septum"),
        ("femur", [("short-femur", -4.0), ("short-femur", -5.0)], "asked twice"),
    ],
)
def test_a_conflict_is_told(plane: str, asked: list[tuple[str, float]], message: str) -> None:
    with pytest.raises(AnomalyError, match=f"cannot be together: .*{message}"):
        apply_anomalies(phantom_layout(plane), asked, generator(1))


def test_what_is_taken_away_is_asked_as_absent() -> None:
    after = apply_anomaly(phantom_layout("abdomen"), "absent-stomach", 1.0, generator(1))
    assert after.absent == {"stomach"}
    assert rasterize(after, 32).absent[structure_index("stomach")]
    one = apply_anomaly(phantom_layout("four-chamber"), "single-ventricle", 1.0, generator(1))
    assert one.absent == {"right-ventricle"}


def test_renal_dilation_is_graded_by_age() -> None:
    assert [urinary_tract_grade(mm, 22) for mm in (3.9, 4, 6.9, 7)] == ["normal", "A1", "A1", "A2-3"]
    assert [urinary_tract_grade(mm, 32) for mm in (6.9, 7, 9.9, 10)] == ["normal", "A1", "A1", "A2-3"]


def test_lips_without_spacing_do_not_tell_their_size() -> None:
    with pytest.raises(AnomalyError, match="neither spacing nor head"):
        apply_anomaly(phantom_layout("face-lips", unit="image"), "cleft-lip", 3.0, generator(1))


def test_an_age_that_is_not_stated_comes_from_the_anatomy() -> None:
    for plane, weeks in (("transventricular", 26.0), ("abdomen", 20.0), ("femur", 30.0)):
        layout = phantom_layout(plane, weeks, 2)
        unknown = Layout(plane, "mm", layout.extent, layout.objects)
        assert setting_of(unknown).weeks == pytest.approx(weeks, abs=3.0)
