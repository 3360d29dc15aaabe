from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy.anomalies import (
    ANOMALIES,
    apply_anomaly,
    atrial_width,
    millimetres_per_unit,
    ventriculomegaly_grade,
)
from fetalflex.anatomy.layout import Layout, LayoutObject, mask_box
from fetalflex.errors import AnomalyError
from fetalflex.rng import generator


def ellipse(size: int, centre: tuple[float, float], axes: tuple[float, float], angle: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    v = -(x - centre[0]) * np.sin(angle) + (y - centre[1]) * np.cos(angle)
    return (u / axes[0]) ** 2 + (v / axes[1]) ** 2 < 1


def brain(size: int = 64, angle: float = 0.0, extent: float = 128.0, unit: str = "mm", plane: str = "brain") -> Layout:
    half = size / 2
    head = ellipse(size, (half, half), (size * 0.36, size * 0.28), angle)
    offset = size * 0.12
    centre = (half + size * 0.08 - offset * np.sin(angle), half + offset * np.cos(angle))
    ventricle = ellipse(size, centre, (size * 0.12, size * 0.03), angle)
    csp = ellipse(size, (half - size * 0.1, half), (size * 0.03, size * 0.03), 0)
    objects = tuple(
        LayoutObject(name, mask_box(mask, extent), mask)
        for name, mask in (("head", head), ("lateral-ventricle", ventricle), ("csp", csp))
    )
    return Layout(plane, unit, extent, objects)


@pytest.mark.parametrize("width", [3, 4, 7, 10])
def test_measures_the_width_of_a_band_in_any_direction(width: int) -> None:
    band = np.zeros((64, 64), bool)
    band[20 : 20 + width, 10:50] = True
    assert atrial_width(band, 128.0) == pytest.approx(2 * width, abs=0.5)
    assert atrial_width(band.T, 128.0) == pytest.approx(2 * width, abs=0.5)
    assert atrial_width(np.zeros((8, 8), bool), 8.0) == 0


@settings(deadline=None, max_examples=30)
@given(st.floats(10, 20), st.floats(0, 3.1), st.sampled_from([64, 128]))
def test_reaches_the_asked_width_within_a_pixel(severity: float, angle: float, size: int) -> None:
    before = brain(size, angle)
    after = apply_anomaly(before, "ventriculomegaly", severity, generator(1, "case"))
    found = after.find("lateral-ventricle")
    assert atrial_width(found.mask, after.extent) == pytest.approx(severity, abs=after.extent / size)
    assert found.edited
    assert found.box == mask_box(found.mask, after.extent)
    assert not (found.mask & ~before.find("head").mask).any()
    for name in ("head", "csp"):
        assert after.find(name) is before.find(name)


def test_is_the_same_for_the_same_seed() -> None:
    made = [apply_anomaly(brain(), "ventriculomegaly", 14.0, generator(3)).to_json() for _ in range(2)]
    assert made[0] == made[1]


def test_moves_away_from_the_skull_where_there_is_no_room() -> None:
    small = brain(extent=90.0)  # short diameter 50 mm: a half of it is not much more than the width
    after = apply_anomaly(small, "ventriculomegaly", 18.0, generator(1))
    mask = after.find("lateral-ventricle").mask
    assert atrial_width(mask, 90.0) == pytest.approx(18.0, abs=90 / 64)


def test_takes_the_biparietal_diameter_as_scale_without_spacing() -> None:
    before = brain(extent=1.0, unit="image")
    assert millimetres_per_unit(before) == pytest.approx(55.0 / 0.56, rel=0.05)  # mean BPD at 22 weeks
    after = apply_anomaly(before, "ventriculomegaly", 15.0, generator(1))
    width = atrial_width(after.find("lateral-ventricle").mask, 1.0) * millimetres_per_unit(before)
    assert width == pytest.approx(15.0, abs=millimetres_per_unit(before) / 64)


def test_widens_a_box_where_there_is_no_mask() -> None:
    before = brain().boxes_only()
    after = apply_anomaly(before, "ventriculomegaly", 16.0, generator(1)).find("lateral-ventricle")
    x0, y0, x1, y1 = after.box
    assert (after.mask, after.edited) == (None, True)
    assert y1 - y0 == pytest.approx(16.0)
    assert (x0, x1) == (before.find("lateral-ventricle").box[0], before.find("lateral-ventricle").box[2])


def test_widens_both_ventricles() -> None:
    before = brain()
    one = before.find("lateral-ventricle").mask
    both = one | one[::-1]
    before = before.replaced(LayoutObject("lateral-ventricle", mask_box(both, 128.0), both))
    after = apply_anomaly(before, "ventriculomegaly", 13.0, generator(1)).find("lateral-ventricle").mask
    for half in (after[:32], after[32:]):
        assert atrial_width(np.pad(half, ((0, 32), (0, 0))), 128.0) == pytest.approx(13.0, abs=2.0)


@pytest.mark.parametrize(
    ("layout", "name", "severity", "message"),
    [
        (brain(), "cleft", 12.0, "unknown"),
        (brain(), "ventriculomegaly", 8.0, "expected 10 to 25"),
        (Layout("femur", "mm", 100.0, ()), "ventriculomegaly", 12.0, "plane 'femur'"),
        (Layout("brain", "mm", 100.0, ()), "ventriculomegaly", 12.0, "no 'lateral-ventricle'"),
        (brain(extent=40.0), "ventriculomegaly", 25.0, "has room"),
        (brain(extent=300.0), "ventriculomegaly", 12.0, "wide already"),
    ],
)
def test_says_why_it_cannot_be_made(layout: Layout, name: str, severity: float, message: str) -> None:
    with pytest.raises(AnomalyError, match=message):
        apply_anomaly(layout, name, severity, generator(1))


def test_grades_as_the_guideline_does() -> None:
    assert [ventriculomegaly_grade(mm) for mm in (7, 10, 12, 13, 15, 15.1)] == [
        "normal", "mild", "mild", "moderate", "moderate", "severe",
    ]  # fmt: skip
    assert ANOMALIES["ventriculomegaly"].severity[0] == 10


@settings(deadline=None, max_examples=20)
@given(st.floats(10, 22), st.floats(18, 34))
def test_scale_without_spacing_follows_the_age(severity: float, weeks: float) -> None:
    layout = replace(brain(extent=1.0, unit="image"), age_weeks=weeks)
    older = replace(layout, age_weeks=min(40.0, weeks + 4))
    assert millimetres_per_unit(older) > millimetres_per_unit(layout)
    boxes = apply_anomaly(layout.boxes_only(), "ventriculomegaly", severity, generator(1))
    x0, y0, x1, y1 = boxes.find("lateral-ventricle").box
    assert min(x1 - x0, y1 - y0) * millimetres_per_unit(layout) == pytest.approx(severity, rel=0.01)


def test_leaves_the_normal_layout_as_it_was() -> None:
    before = brain()
    text = before.to_json()
    apply_anomaly(before, "ventriculomegaly", 15.0, generator(1))
    assert before.to_json() == text
