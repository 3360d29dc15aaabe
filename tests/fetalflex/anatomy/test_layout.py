import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fetalflex.anatomy.layout import (
    Box,
    Layout,
    LayoutObject,
    box_mask,
    changed_region,
    mask_box,
    rasterize,
    resize_mask,
    signed_distance,
)
from fetalflex.anatomy.layout_json import read_mask
from fetalflex.anatomy.ontology import PLANES, STRUCTURE_NAMES, structure_index
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.errors import LayoutError

SIDE = 16
HEAD, CSP = structure_index("head"), structure_index("csp")
masks = arrays(np.bool_, (SIDE, SIDE))
fractions = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda p: p[0] < p[1])


@st.composite
def boxes(draw: st.DrawFn, extent: float = 1.0) -> Box:
    (x0, x1), (y0, y1) = draw(fractions), draw(fractions)
    box = (x0 * extent, y0 * extent, x1 * extent, y1 * extent)
    return box if box[0] < box[2] and box[1] < box[3] else (0.0, 0.0, extent, extent)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    plane = draw(st.sampled_from(PLANES))
    unit, extent = draw(st.just(("image", 1.0)) | st.tuples(st.just("mm"), st.floats(1, 400)))
    objects = st.builds(
        LayoutObject, st.sampled_from(plane.structures), boxes(extent), st.none() | masks, edited=st.booleans()
    )
    found = draw(st.lists(objects, max_size=4))
    center = draw(st.none() | st.text(max_size=8))
    return Layout(plane.name, unit, extent, tuple(found), center, draw(st.none() | st.floats(4, 45)))


def head(box: Box = (0.1, 0.2, 0.9, 0.8), mask: Any = None, **more: Any) -> LayoutObject:
    return LayoutObject("head", box, mask, **more)


def brain(*objects: LayoutObject) -> Layout:
    return Layout("transventricular", "image", 1.0, objects)


@given(layouts())
def test_json_gives_the_layout_back_number_for_number(layout: Layout) -> None:
    again = Layout.from_json(layout.to_json())
    plain = ("plane", "unit", "extent", "center", "age_weeks")
    assert [getattr(again, n) for n in plain] == [getattr(layout, n) for n in plain]
    for one, other in zip(again.objects, layout.objects, strict=True):
        assert (one.structure, one.box, one.edited) == (other.structure, other.box, other.edited)
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or np.array_equal(one.mask, other.mask)
    assert again.to_json() == layout.to_json()


def test_numbers_of_numpy_can_be_written() -> None:
    box = tuple(np.float32([0.25, 0.25, 0.5, 0.5]))
    layout = Layout("unknown", "mm", np.float32(90), (head(box),), age_weeks=np.float32(22))  # type: ignore[arg-type]
    assert Layout.from_json(layout.to_json()).find("head").box == (0.25, 0.25, 0.5, 0.5)  # type: ignore[union-attr]


def form(**changes: Any) -> str:
    return json.dumps({"plane": "brain", "unit": "mm", "extent": 90, "objects": []} | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        form(extent="wide"),
        form(plane=["brain"]),
        form(extent=float("nan")),
        form(age_weeks="late"),
        form(age_weeks=float("nan")),
        form(objects={"structure": "head"}),
        form(objects=[{"structure": "head"}]),
        form(objects=[{"structure": "head", "box": [1, 2, 3]}]),
        form(objects=[{"structure": "head", "box": [1, 2, 3, "4 mm"]}]),
        form(objects=[{"structure": "head", "box": [1, 2, 3, 4], "mask": "!"}]),
        form(objects=[{"structure": "head", "box": [1, 2, 3, 4], "mask": "aGk="}]),
    ],
)
def test_json_that_is_none_of_ours_is_a_layout_error(text: str) -> None:
    with pytest.raises(LayoutError):
        Layout.from_json(text)


@pytest.mark.parametrize(
    "box",
    [
        (-0.1, 0.2, 0.9, 0.8),
        (0.1, 0.2, 1.1, 0.8),
        (0.1, -0.2, 0.9, 0.8),
        (0.1, 0.2, 0.9, 1.2),
        (0.5, 0.2, 0.5, 0.8),
        (0.1, 0.8, 0.9, 0.2),
        (float("nan"), 0.2, 0.9, 0.8),
    ],
)
def test_a_box_out_of_the_frame_or_empty_is_refused(box: Box) -> None:
    with pytest.raises(LayoutError, match=r"box of 'head' .* leaves the frame of 1 image, or is empty"):
        brain(head(box))


def test_a_box_may_touch_the_frame() -> None:
    assert brain(head((0.0, 0.0, 1.0, 1.0 + 1e-9))).objects


def test_a_structure_of_another_plane_is_refused() -> None:
    with pytest.raises(LayoutError, match="'femur' is no structure of plane 'transventricular'; expected head, csp"):
        brain(LayoutObject("femur", (0.1, 0.1, 0.5, 0.5)))


@pytest.mark.parametrize("change", [{"plane": "sagittal"}, {"unit": "cm"}, {"extent": 0.0}, {"extent": float("inf")}])
def test_an_unknown_plane_unit_or_extent_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(LayoutError, match="expected"):
        replace(brain(), **change)


@pytest.mark.parametrize("age", [0.0, -1.0, float("nan"), float("inf")])
def test_an_age_that_is_none_is_refused(age: float) -> None:
    with pytest.raises(LayoutError, match="age in weeks"):
        replace(brain(), age_weeks=age)


@pytest.mark.parametrize("mask", [np.ones((4, 4), np.uint8), np.ones((4, 5), bool), np.ones(4, bool)])
def test_a_mask_that_is_no_square_of_truth_values_is_refused(mask: Any) -> None:
    with pytest.raises(LayoutError, match=r"mask of 'head' .*expected bool \[S, S\]"):
        brain(head(mask=mask))


def test_objects_are_found_replaced_added_and_stripped_of_masks() -> None:
    layout = brain(head(mask=np.ones((4, 4), bool)), LayoutObject("csp", (0.3, 0.4, 0.4, 0.5)))
    moved = LayoutObject("csp", (0.4, 0.4, 0.5, 0.5), edited=True)
    added = LayoutObject("lateral-ventricle", (0.6, 0.4, 0.7, 0.5))
    changed = layout.replaced(moved, added)
    assert {o.structure for o in changed.objects} == {"head", "csp", "lateral-ventricle"}
    assert changed.find("csp") is moved
    assert changed.find("cerebellum") is None
    assert layout.find("lateral-ventricle") is None
    assert [o.mask for o in layout.boxes_only().objects] == [None, None]
    assert layout.objects[0].mask is not None


@given(boxes(), st.integers(1, 40))
def test_a_box_inside_the_canvas_is_never_drawn_empty(box: Box, size: int) -> None:
    assert box_mask(box, 1.0, size).any()


@given(boxes(), st.sampled_from([16, 33]), st.floats(0.01, 400))
def test_a_drawn_box_is_at_most_half_a_pixel_off(box: Box, size: int, extent: float) -> None:
    wide = tuple(v * extent for v in box)
    drawn = mask_box(box_mask(wide, extent, size), extent)  # type: ignore[arg-type]
    assert drawn is not None
    pixel = extent / size
    for low, high in ((0, 2), (1, 3)):
        slack = 0.5001 * pixel if wide[high] - wide[low] >= pixel else 1.0001 * pixel
        assert abs(drawn[low] - wide[low]) <= slack
        assert abs(drawn[high] - wide[high]) <= slack


@given(masks)
def test_the_box_of_a_mask_is_tight(mask: np.ndarray) -> None:
    box = mask_box(mask, 8.0)
    if box is None:
        assert not mask.any()
        return
    x0, y0, x1, y1 = (round(v * SIDE / 8.0) for v in box)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert all(edge.any() for edge in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1]))
    assert all(type(v) is float for v in box)


def test_a_layout_is_drawn_box_as_box_and_mask_as_mask() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:8, 2:6] = True
    maps = rasterize(brain(head((0.25, 0.5, 0.75, 1.0)), LayoutObject("csp", (0.125, 0.25, 0.375, 0.5), mask)), SIDE)
    assert maps.maps.shape == (len(STRUCTURE_NAMES), SIDE, SIDE)
    assert (maps.maps.dtype, maps.kinds.dtype, maps.boxes.dtype) == (np.float32, np.int64, np.float32)
    assert np.array_equal(np.argwhere(maps.maps[HEAD])[[0, -1]], [[8, 4], [15, 11]])
    assert np.array_equal(maps.maps[CSP], mask)
    assert {k: int(v) for k, v in enumerate(maps.kinds) if v} == {HEAD: 1, CSP: 2}
    assert maps.boxes[HEAD].tolist() == [0.25, 0.5, 0.75, 1.0]
    asked = [HEAD, CSP]
    assert not np.delete(maps.maps, asked, axis=0).any()
    assert not np.delete(maps.boxes, asked, axis=0).any()


def test_two_objects_of_one_structure_are_united() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[0, 0] = True
    pixel = LayoutObject("head", (0.0, 0.0, 1 / 16, 1 / 16), mask)
    box = head((0.5, 0.5, 1.0, 0.75))
    for objects in ((pixel, box), (box, pixel)):
        maps = rasterize(brain(*objects), SIDE)
        assert maps.maps[HEAD].sum() == 1 + 8 * 4
        assert maps.kinds[HEAD] == 2
        assert maps.boxes[HEAD].tolist() == [0.0, 0.0, 1.0, 0.75]


def test_the_extent_cancels() -> None:
    one = rasterize(brain(head()), SIDE)
    box = tuple(v * 120 for v in head().box)
    other = rasterize(Layout("transventricular", "mm", 120.0, (head(box),)), SIDE)  # type: ignore[arg-type]
    assert np.array_equal(one.maps, other.maps)
    assert np.allclose(one.boxes, other.boxes)


@given(layouts(), st.sampled_from([4, 16, 24]))
def test_nothing_that_is_asked_vanishes_on_any_grid(layout: Layout, size: int) -> None:
    maps = rasterize(layout, size)
    asked = {structure_index(o.structure) for o in layout.objects}
    assert {k for k in range(len(STRUCTURE_NAMES)) if maps.maps[k].any()} == asked
    assert set(np.nonzero(maps.kinds)[0].tolist()) == asked
    assert set(np.unique(maps.maps)) <= {0.0, 1.0}


@given(masks)
def test_a_mask_grows_and_shrinks_back(mask: np.ndarray) -> None:
    assert np.array_equal(resize_mask(resize_mask(mask, 4 * SIDE), SIDE), mask)
    assert resize_mask(mask, SIDE) is mask


@given(st.floats(4, 20))
def test_signed_distance_is_zero_at_the_border(radius: float) -> None:
    mask = Ellipse((50.3, 49.8), (radius, radius)).draw(100.0, 128)
    field = signed_distance(mask)
    assert ((field > 0) == mask).all()
    assert field.max() == pytest.approx(radius * 1.28, abs=1)


@pytest.mark.parametrize(("old", "new"), [(20.0, 26.0), (26.0, 20.0)])
def test_where_a_head_changes_its_size_the_echoes_of_both_skulls_are_part_of_the_region(old: float, new: float) -> None:
    def head(radius: float) -> Layout:
        shape = Ellipse((32.0, 32.0), (radius, radius))
        return Layout("transventricular", "mm", 64.0, (LayoutObject.of("head", shape),))

    region = changed_region(head(old), head(new), 128)
    rows, columns = (np.indices((128, 128)) + 0.5) / 2
    radius = np.hypot(rows - 32, columns - 32)
    for skull in (old, new):  # the echo: 5 % of the diameter outside of the outline, 8 % inside
        assert region[(radius > skull - 0.15 * skull) & (radius < skull + 0.09 * skull)].all()
    assert not region[(radius < 20 - 0.2 * 20) | (radius > 26 + 0.12 * 26)].any()
    assert not changed_region(head(old), head(old), 128).any()


def test_a_structure_without_a_wall_changes_where_its_drawing_does_and_nowhere_else() -> None:
    def ventricle(radius: float) -> Layout:
        shape = Ellipse((32.0, 32.0), (radius, radius))
        return Layout("transventricular", "mm", 64.0, (LayoutObject.of("lateral-ventricle", shape),))

    rows, columns = (np.indices((64, 64)) + 0.5) - 32
    radius = np.hypot(rows, columns)
    region = changed_region(ventricle(5.0), ventricle(10.0), 64)
    assert region[(radius > 6) & (radius < 9)].all()
    assert not region[(radius < 4) | (radius > 11)].any()


def test_the_form_of_these_tests_is_one_of_ours() -> None:
    assert Layout.from_json(form(objects=[{"structure": "head", "box": [1, 2, 3, 4]}])).find("head")


def test_json_is_plain_text_with_sorted_keys() -> None:
    value = json.loads(brain(head(mask=np.ones((4, 4), bool))).to_json())
    assert list(value) == sorted(value)
    assert read_mask(value["objects"][0]["mask"]).all()
