from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.measure import region_of
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.errors import AnomalyError, LayoutError
from fetalflex.studio import desk as desks
from fetalflex.studio.desk import Desk
from tests.fetalflex.studio.rooms import head

VENTRICLE = 2
numbers = st.floats(-12, 12, allow_nan=False)


@given(numbers, numbers, st.floats(-90, 90), st.floats(0.7, 1.4))
def test_a_movement_and_its_inverse_give_an_ellipse_back(dx: float, dy: float, degrees: float, grow: float) -> None:
    layout, centre = head(), (36.0, 42.0)
    there = desks.turn_matrix(centre, degrees, (grow, 1 / grow), 20)
    a, b, c, d, e, f = there
    linear, shift = np.array([[a, c], [b, d]]), np.array([e + dx, f + dy])
    moved = desks.transform(layout, VENTRICLE, [a, b, c, d, e + dx, f + dy])
    back = np.linalg.inv(linear)
    offset = -back @ shift
    again = desks.transform(moved, VENTRICLE, [back[0, 0], back[1, 0], back[0, 1], back[1, 1], offset[0], offset[1]])
    before, after = (region_of(v, "lateral-ventricle") for v in (layout, again))
    assert np.array_equal(before, after) or (before != after).sum() <= 2
    assert again.objects[VENTRICLE].edited
    assert again.objects[0] is layout.objects[0]


def test_all_kinds_of_objects_move_by_the_same_way() -> None:
    whole = head()
    boxed, masked = whole.boxes_only(), whole.drawn(128)
    for layout in (whole, boxed, masked):
        moved = desks.transform(layout, VENTRICLE, [1, 0, 0, 1, 10, 5])
        x0, y0, x1, y1 = layout.objects[VENTRICLE].box
        assert moved.objects[VENTRICLE].box == pytest.approx((x0 + 10, y0 + 5, x1 + 10, y1 + 5), abs=100 / 128)


@pytest.mark.parametrize("matrix", [[1, 0, 0, 1, 500, 0], [0, 0, 0, 0, 0, 0], [1e6, 0, 0, 1e6, 0, 0]])
@pytest.mark.parametrize("form", ["shape", "mask", "box"])
def test_a_movement_out_of_the_frame_or_to_nothing_is_an_error(matrix: list[float], form: str) -> None:
    layout = {"shape": head(), "mask": head().drawn(64), "box": head().boxes_only()}[form]
    with pytest.raises(LayoutError):
        desks.transform(layout, VENTRICLE, matrix)


def test_a_deleted_structure_is_left_open_or_asked_absent() -> None:
    layout = head()
    assert desks.remove(layout, 1, absent=False).absent == frozenset()
    asked = desks.remove(layout, 1, absent=True)
    assert asked.absent == {"csp"}
    assert asked.find("csp") is None
    assert desks.add(asked, "csp").absent == frozenset()
    with pytest.raises(LayoutError, match="no object 7"):
        desks.remove(layout, 7, absent=False)


def test_of_two_kidneys_the_other_one_stays_when_one_is_asked_absent() -> None:
    kidneys = [LayoutObject.of("kidney", Ellipse((x, 50.0), (8.0, 6.0))) for x in (30.0, 70.0)]
    layout = Layout("kidneys", "mm", 100.0, tuple(kidneys))
    left = desks.remove(layout, 0, absent=True)
    assert (left.absent, len(left.objects)) == (frozenset(), 1)


@pytest.mark.parametrize("structure", ["head", "csp", "lateral-ventricle", "choroid-plexus-cyst"])
def test_any_structure_of_the_plane_can_be_added(structure: str) -> None:
    for layout in (head(), replace(head(), objects=())):
        assert desks.add(layout, structure).objects[-1].structure == structure
    with pytest.raises(LayoutError, match="stomach"):
        desks.add(head(), "stomach")


def test_painting_adds_and_erasing_takes_away_what_the_brush_covers() -> None:
    layout = head()
    painted = desks.paint(layout, VENTRICLE, [(60.0, 60.0), (65.0, 60.0)], 3.0, erase=False)
    before, after = (region_of(v, "lateral-ventricle") for v in (layout, painted))
    assert after[int(0.6 * 256), int(0.62 * 256)]
    assert (after & before).sum() == before.sum()
    erased = desks.paint(painted, VENTRICLE, [(60.0, 60.0), (65.0, 60.0)], 3.0, erase=True)
    assert np.array_equal(region_of(erased, "lateral-ventricle"), before)
    with pytest.raises(LayoutError, match="nothing would be left"):
        desks.paint(layout, VENTRICLE, [(50.0, 50.0)], 100.0, erase=True)
    with pytest.raises(LayoutError, match="brush"):
        desks.paint(layout, VENTRICLE, [], 1.0, erase=False)


def test_a_slider_starts_from_the_normal_layout_every_time() -> None:
    desk = Desk.of(head(), "test")
    wide = desk.with_anomalies([("ventriculomegaly", 18.0)])
    less = wide.with_anomalies([("ventriculomegaly", 12.0)])
    assert less.asked.to_json() == desk.with_anomalies([("ventriculomegaly", 12.0)]).asked.to_json()
    assert less.with_anomalies([]).asked is desk.asked
    with pytest.raises(AnomalyError, match="expected 10"):
        desk.with_anomalies([("ventriculomegaly", 99.0)])


def test_a_change_by_hand_takes_the_anomaly_into_the_layout() -> None:
    wide = Desk.of(head(), "test").with_anomalies([("ventriculomegaly", 14.0)])
    moved = wide.with_layout(desks.transform(wide.asked, 1, [1, 0, 0, 1, 1, 1]))
    assert moved.anomalies == ()
    assert moved.start is moved.asked
    assert moved.asked.find("lateral-ventricle") is wide.asked.find("lateral-ventricle")
