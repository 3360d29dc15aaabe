import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fetalflex.anatomy.layout import Layout, LayoutObject, mask_box, rasterize
from fetalflex.anatomy.layout_json import layout_schema
from fetalflex.anatomy.ontology import PLANES, structure_index
from fetalflex.anatomy.shapes import Ellipse, Polyline
from fetalflex.errors import LayoutError

SIDE = 12
places = st.floats(0.3, 0.7)
points = st.tuples(places, places)
shapes = st.builds(Ellipse, points, st.tuples(st.floats(0.01, 0.2), st.floats(0.01, 0.2)), st.floats(-360, 360)) | (
    st.builds(Polyline, st.lists(points, min_size=3, max_size=6).map(tuple))
    | st.builds(Polyline, st.lists(points, min_size=2, max_size=6).map(tuple), st.just(False), st.floats(0.01, 0.2))
)
masks = arrays(np.bool_, (SIDE, SIDE)).filter(lambda m: m.any())


@st.composite
def objects(draw: st.DrawFn, names: tuple[str, ...]) -> LayoutObject:
    name, edited = draw(st.sampled_from(names)), draw(st.booleans())
    if draw(st.booleans()):
        mask = draw(masks)
        return LayoutObject(name, mask_box(mask, 1.0), mask, edited)  # type: ignore[arg-type]
    made = LayoutObject.of(name, draw(shapes), edited=edited)
    x0, y0, x1, y1 = made.box
    return made if x0 < x1 and y0 < y1 else LayoutObject(name, (0.1, 0.2, 0.3, 0.4), edited=edited)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    plane = draw(st.sampled_from(PLANES))
    found = draw(st.lists(objects(plane.structures), max_size=4))
    free = [n for n in plane.structures if n not in {o.structure for o in found}]
    absent = frozenset(draw(st.lists(st.sampled_from(free), max_size=2)) if free else ())
    age = draw(st.none() | st.floats(10, 42))
    derived = age is not None and draw(st.booleans())
    return Layout(plane.name, "image", 1.0, tuple(found), draw(st.none() | st.text(max_size=6)), age, derived, absent)


@given(layouts())
def test_json_gives_shapes_absence_and_derived_ages_back_exactly(layout: Layout) -> None:
    again = Layout.from_json(layout.to_json())
    assert again.to_json() == layout.to_json()
    assert (again.absent, again.age_weeks, again.age_derived) == (layout.absent, layout.age_weeks, layout.age_derived)
    for one, other in zip(again.objects, layout.objects, strict=True):
        assert (one.structure, one.box, one.edited, one.shape) == (
            other.structure, other.box, other.edited, other.shape,
        )  # fmt: skip
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or np.array_equal(one.mask, other.mask)


@given(layouts())
def test_what_is_written_fits_the_published_schema(layout: Layout) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator(layout_schema()).validate(json.loads(layout.to_json()))


def form(**changes: Any) -> dict[str, Any]:
    return {"plane": "brain", "unit": "mm", "extent": 90, "objects": []} | changes


CIRCLE = {"centre": [45, 45], "semi_axes": [5, 5]}
BAD = [
    form(version=3),
    form(scale=2),
    form(age_derived="yes"),
    form(objects=[{"structure": "head"}]),
    form(objects=[{"structure": "head", "box": [1, 2, 3, 4], "edited": "no"}]),
    form(objects=[{"structure": "head", "ellipse": CIRCLE, "polyline": {"points": [[1, 1], [2, 2], [1, 2]]}}]),
    form(objects=[{"structure": "head", "ellipse": {"centre": [45, 45], "semi_axes": [0, 5]}}]),
    form(objects=[{"structure": "head", "ellipse": {"centre": [45], "semi_axes": [5, 5]}}]),
    form(objects=[{"structure": "head", "polyline": {"points": [[1, 1]]}}]),
    form(objects=[{"structure": "head", "polyline": {"points": [[1, 1], [5, 5]], "closed": 0}}]),
    form(objects=[{"structure": "head", "box": [1, 2, 3, 4], "colour": "red"}]),
    form(absent="head"),
]


@pytest.mark.parametrize("value", BAD)
def test_reader_and_schema_refuse_the_same(value: dict[str, Any]) -> None:
    with pytest.raises(LayoutError):
        Layout.from_json(json.dumps(value))
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    assert not jsonschema.Draft202012Validator(layout_schema()).is_valid(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (form(absent=["femur"]), "'femur' is no structure of plane 'brain'"),
        (form(absent=["head"], objects=[{"structure": "head", "ellipse": CIRCLE}]), "as an object and as absent"),
        (form(age_derived=True), "marked as derived, but there is none"),
        (form(objects=[{"structure": "head", "ellipse": CIRCLE | {"semi_axes": [50, 5]}}]), "leaves the frame"),
    ],
)
def test_layouts_that_contradict_themselves_are_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Layout.from_json(json.dumps(value))


def test_the_first_form_stays_readable() -> None:
    value = form(objects=[{"structure": "csp", "box": [1, 2, 3, 4]}], center="a", age_weeks=22)
    layout = Layout.from_json(json.dumps(value))
    assert (layout.center, layout.age_weeks, layout.age_derived, layout.absent) == ("a", 22.0, False, frozenset())
    assert layout.find("csp") is not None


def test_a_shape_needs_no_box() -> None:
    layout = Layout.from_json(json.dumps(form(objects=[{"structure": "csp", "ellipse": CIRCLE}])))
    assert layout.objects[0].box == pytest.approx((40, 40, 50, 50))


def test_absence_is_kept_apart_from_what_is_not_asked() -> None:
    layout = Layout("brain", "image", 1.0, (), absent=frozenset({"csp"}))
    maps = rasterize(layout, 8)
    assert maps.absent.sum() == 1
    assert maps.absent[structure_index("csp")]
    assert not maps.kinds.any()
    again = layout.replaced(LayoutObject("csp", (0.1, 0.1, 0.2, 0.2)))
    assert again.absent == frozenset()
    assert again.without("csp").absent == {"csp"}
    assert again.without("csp").find("csp") is None
