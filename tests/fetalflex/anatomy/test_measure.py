import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy import measure
from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.shapes import Ellipse, Polyline
from fetalflex.errors import AnomalyError

SIZE, EXTENT = 128, 100.0
PIXEL = EXTENT / SIZE
angles = st.floats(0, 3.14)


def ellipse(a: float, b: float, angle: float = 0.0) -> np.ndarray:
    return Ellipse((50.3, 49.8), (a, b), float(np.degrees(angle))).draw(EXTENT, SIZE)


@given(st.floats(15, 40), st.floats(0.5, 0.95), angles)
def test_ellipse_fit_gives_diameters_circumference_and_index(a: float, ratio: float, angle: float) -> None:
    mask = ellipse(a, a * ratio, angle)
    long, short = measure.ellipse_diameters(mask, EXTENT)
    assert (long, short) == (pytest.approx(2 * a, abs=0.5 * PIXEL), pytest.approx(2 * a * ratio, abs=0.5 * PIXEL))
    around = np.linspace(0, 2 * np.pi, 2001)
    whole = np.hypot(np.diff(a * np.cos(around)), np.diff(a * ratio * np.sin(around))).sum()
    assert measure.circumference(mask, EXTENT) == pytest.approx(whole, rel=0.01)
    assert measure.cephalic_index(mask, EXTENT) == pytest.approx(100 * ratio, abs=1.2)


@given(st.floats(2, 14), st.floats(1.2, 3), angles)
def test_width_of_an_ellipse_is_read_a_pixel_and_a_third_low_at_most(b: float, ratio: float, angle: float) -> None:
    b *= PIXEL
    assert -1.33 * PIXEL <= measure.atrial_width(ellipse(b * ratio, b, angle), EXTENT) - 2 * b <= 0.7 * PIXEL


@given(st.floats(5, 30), st.floats(3, 12), angles)
def test_depth_is_the_longest_way_along_a_direction(a: float, b: float, angle: float) -> None:
    mask = ellipse(a, b, angle)
    direction = np.array([np.cos(angle), np.sin(angle)])
    assert measure.depth(mask, EXTENT, direction) == pytest.approx(2 * a, abs=PIXEL)
    assert measure.depth(mask, EXTENT, np.array([-direction[1], direction[0]])) == pytest.approx(2 * b, abs=PIXEL)
    assert measure.largest_diameter(mask, EXTENT) == pytest.approx(2 * max(a, b), abs=1.6 * PIXEL)


@pytest.mark.parametrize("width", [2, 5, 9])
def test_gap_is_the_way_between_two_parts(width: int) -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:30, 5:25], mask[20:30, 25 + width : 60] = True, True
    assert measure.gap(mask, 64.0) == pytest.approx(width)
    assert measure.gap(mask[:, :25].repeat(2, axis=1)[:50], 50.0) == 0


def bent(length: float, angle: float, turn: float, width: float = 4.0) -> np.ndarray:
    """A rod along a circular arc of that length (mm) and angle (radians), its ends cut across."""
    s, radius = np.linspace(-0.5, 0.5, 40) * angle, length / angle
    inner, outer = radius - width / 2, radius + width / 2
    x = np.concatenate([inner * np.sin(s), outer * np.sin(s[::-1])])
    y = radius - np.concatenate([inner * np.cos(s), outer * np.cos(s[::-1])])
    c, n = np.cos(turn), np.sin(turn)
    points = tuple((float(50 + u * c - v * n), float(45 + u * n + v * c)) for u, v in zip(x, y, strict=True))
    return Polyline(points).draw(EXTENT, SIZE)


@settings(max_examples=40)
@given(st.floats(30, 50), st.floats(0.15, 1.5), angles)
def test_an_arc_is_measured_along_itself(length: float, angle: float, turn: float) -> None:
    mask = bent(length, angle, turn)
    found, between = measure.arc(mask, EXTENT)
    assert found == pytest.approx(length, abs=1.5 * PIXEL)
    pixel_deg = np.degrees(8 * PIXEL / length)  # what one pixel of the sagitta is, in degrees
    assert between == measure.bow_angle(mask, EXTENT) == pytest.approx(np.degrees(angle), abs=pixel_deg)


def test_a_box_is_measured_as_the_ellipse_that_fills_it() -> None:
    layout = Layout("abdomen", "mm", EXTENT, (LayoutObject("abdomen", (20.0, 30.0, 80.0, 80.0)),))
    mask = measure.region_of(layout, "abdomen")
    assert measure.ellipse_diameters(mask, EXTENT) == (pytest.approx(60, abs=0.5), pytest.approx(50, abs=0.5))
    with pytest.raises(AnomalyError, match="no 'stomach'"):
        measure.region_of(layout, "stomach")


def test_a_diameter_of_an_ellipse_is_exact() -> None:
    item = LayoutObject.of("duodenum", Ellipse((50.0, 50.0), (7.125, 3.0), 33.0))
    layout = Layout("abdomen", "mm", EXTENT, (item,))
    assert measure.diameter_of(layout, "duodenum") == 14.25
    assert measure.diameter_of(layout, "stomach") == 0


def test_empty_regions_are_told() -> None:
    empty = np.zeros((16, 16), bool)
    assert measure.reach(empty, 16.0, np.array([1.0, 0.0])) == measure.depth(empty, 16.0, np.array([1.0, 0.0])) == 0
    for call in (measure.centroid, measure.ellipse_diameters, measure.arc):
        with pytest.raises(AnomalyError):
            call(empty, 16.0)
