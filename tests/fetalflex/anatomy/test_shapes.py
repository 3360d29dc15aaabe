import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.anatomy.layout import Layout, LayoutObject, rasterize
from fetalflex.anatomy.shapes import Ellipse, Polyline, inscribed
from fetalflex.errors import LayoutError

SIZE, EXTENT = 200, 100.0
ellipses = st.builds(
    Ellipse,
    st.tuples(st.floats(40, 60), st.floats(40, 60)),
    st.tuples(st.floats(4, 30), st.floats(4, 30)),
    st.floats(-180, 180),
)
angles = st.floats(0, 6.28)


def turned(angle: float, scale: float) -> np.ndarray:
    return scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@given(ellipses)
def test_an_ellipse_is_drawn_inside_its_tight_box_with_its_area(shape: Ellipse) -> None:
    drawn = shape.draw(EXTENT, SIZE)
    ys, xs = np.nonzero(drawn)
    pixel = EXTENT / SIZE
    found = (xs.min() * pixel, ys.min() * pixel, (xs.max() + 1) * pixel, (ys.max() + 1) * pixel)
    assert np.abs(np.subtract(found, shape.bounds())).max() < 2 * pixel
    assert drawn.sum() * pixel**2 == pytest.approx(np.pi * shape.semi_axes[0] * shape.semi_axes[1], rel=0.06)


@given(ellipses, angles, st.floats(0.5, 1.2))
def test_moving_the_shape_is_moving_its_points(shape: Ellipse, angle: float, scale: float) -> None:
    matrix = turned(angle, scale) @ np.diag([1.0, 0.7])
    offset = np.array([50.0, 50.0]) - matrix @ np.array([50.0, 50.0])
    around = np.linspace(0, 2 * np.pi, 60)
    turn = np.deg2rad(shape.angle_deg)
    local = np.stack([shape.semi_axes[0] * np.cos(around), shape.semi_axes[1] * np.sin(around)])
    edge = turned(turn, 1.0) @ local + np.array(shape.centre)[:, None]
    moved = shape.moved(matrix, offset)
    x, y = matrix @ edge + offset[:, None] - np.array(moved.centre)[:, None]
    c, s = np.cos(np.deg2rad(moved.angle_deg)), np.sin(np.deg2rad(moved.angle_deg))
    radius = ((x * c + y * s) / moved.semi_axes[0]) ** 2 + ((y * c - x * s) / moved.semi_axes[1]) ** 2
    assert radius == pytest.approx(1, abs=1e-6)


@given(angles, st.integers(3, 9))
def test_a_closed_line_has_its_polygons_area(start: float, corners: int) -> None:
    around = start + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    x, y = 50 + 35 * np.cos(around), 50 + 25 * np.sin(around)
    shape = Polyline(tuple(zip(x.tolist(), y.tolist(), strict=True)))
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert shape.draw(EXTENT, SIZE).sum() * (EXTENT / SIZE) ** 2 == pytest.approx(area, rel=0.05)
    moved = shape.moved(turned(1.0, 0.5), np.array([3.0, 4.0]))
    assert moved.bounds()[0] == pytest.approx(min(p[0] for p in moved.points))


def test_an_open_line_is_a_stroke_of_its_width() -> None:
    shape = Polyline(((20.0, 50.0), (50.0, 50.0), (50.0, 80.0)), closed=False, width=6.0)
    drawn = shape.draw(EXTENT, SIZE)
    assert drawn[:, 70].sum() * EXTENT / SIZE == pytest.approx(6.0)
    assert shape.bounds() == (17.0, 47.0, 53.0, 83.0)
    assert shape.moved(2 * np.eye(2), np.zeros(2)).width == pytest.approx(12.0)


def test_the_ellipse_of_a_box_fills_it() -> None:
    assert inscribed((10.0, 20.0, 50.0, 40.0)).bounds() == pytest.approx((10.0, 20.0, 50.0, 40.0))


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        (Ellipse((50, 50), (0, 5)), "not above 0"),
        (Ellipse((50, float("nan")), (5, 5)), "not all finite"),
        (Polyline(((10, 10), (20, 20))), "less than 3"),
        (Polyline(((10, 10),), closed=False, width=1), "less than 2"),
        (Polyline(((10, 10), (20, 20)), closed=False), "no width above 0"),
        (Polyline(((10, 10), (20, 20), (10, 20)), width=2.0), "closed, and has a width"),
        (Polyline(((10, 10), (float("inf"), 20), (10, 20))), "not all finite"),
    ],
)
def test_impossible_shapes_are_refused_with_their_fault(shape: Ellipse | Polyline, fault: str) -> None:
    item = LayoutObject("head", (10.0, 10.0, 20.0, 20.0), shape=shape)
    with pytest.raises(LayoutError, match=fault):
        Layout("brain", "mm", 100.0, (item,))


def test_a_shape_that_leaves_the_frame_or_its_box_is_refused() -> None:
    with pytest.raises(LayoutError, match="leaves the frame"):
        Layout("brain", "mm", 100.0, (LayoutObject.of("head", Ellipse((10.0, 50.0), (30.0, 20.0))),))
    wrong = LayoutObject("head", (10.0, 10.0, 90.0, 90.0), shape=Ellipse((50.0, 50.0), (30.0, 20.0)))
    with pytest.raises(LayoutError, match="are not the object's box"):
        Layout("brain", "mm", 100.0, (wrong,))


@given(ellipses)
def test_a_layout_draws_shapes_as_shapes(shape: Ellipse) -> None:
    layout = Layout("femur", "mm", EXTENT, (LayoutObject.of("femur", shape),))
    maps = rasterize(layout, 64)
    assert np.array_equal(maps.maps.sum(axis=0) > 0, layout.objects[0].draw(EXTENT, 64))
    assert maps.kinds.max() == 2
    drawn = layout.drawn(64)
    assert np.array_equal(rasterize(drawn, 64).maps, maps.maps)
    assert drawn.objects[0].shape is None
    assert rasterize(layout.boxes_only(), 64).kinds.max() == 1
