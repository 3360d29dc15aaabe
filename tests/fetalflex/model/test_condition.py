from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fetalflex.anatomy.layout import Layout, LayoutObject, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.anatomy.shapes import Ellipse, Polyline
from fetalflex.errors import ModelError
from fetalflex.model.condition import (
    AS_BOX,
    AS_MASK,
    NOT_ASKED,
    Condition,
    Dropping,
    center_vocabulary,
    condition_from_cases,
    condition_from_layouts,
    drop_conditions,
    fill_boxes,
    null_condition,
    settle,
    tight_boxes,
)
from tests.fetalflex import tiny

VOCABULARY = ("not-stated", "far", "near")


def described() -> Condition:
    return condition_from_cases(tiny.cases(), VOCABULARY)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_vocabulary_puts_not_stated_first_and_sorts_the_rest() -> None:
    assert center_vocabulary(["near", "far", "near"]) == VOCABULARY


def test_cases_and_their_layouts_give_the_same_condition() -> None:
    cases = tiny.cases()
    ours, theirs = described(), condition_from_layouts([cases.layout(i) for i in range(8)], VOCABULARY, tiny.SIZE)
    for name in ("maps", "kinds", "plane", "center"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.allclose(ours.boxes, theirs.boxes)


def test_unknown_center_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="'near' is unknown"):
        condition_from_layouts([tiny.layout()], ("not-stated", "far"), tiny.SIZE)


def test_null_condition_asks_for_nothing() -> None:
    null = null_condition(described())
    assert not null.maps.any()
    assert not null.kinds.any()
    assert not null.plane.any()
    assert null.age.isnan().all()


def test_dropping_nothing_changes_nothing() -> None:
    whole = described()
    kept = drop_conditions(whole, Dropping(0, 0, 0, 0), random())
    assert all(torch.equal(getattr(kept, n), getattr(whole, n)) for n in ("maps", "kinds", "boxes", "plane", "center"))


def test_dropping_the_layout_leaves_plane_and_center() -> None:
    whole = described()
    dropped = drop_conditions(whole, Dropping(1, 0, 0, 0), random())
    assert not dropped.kinds.any()
    assert not dropped.maps.any()
    assert torch.equal(dropped.center, whole.center)


def test_dropping_modalities_leaves_the_layout() -> None:
    whole = described()
    dropped = drop_conditions(whole, Dropping(0, 0, 0, 1), random())
    assert torch.equal(dropped.maps, whole.maps)
    assert not dropped.plane.any()
    assert not dropped.center.any()


def test_masks_become_their_filled_boxes() -> None:
    whole = described()
    boxed = drop_conditions(whole, Dropping(0, 0, 1, 0), random())
    chosen = boxed.kinds == AS_BOX
    assert chosen.any()
    assert torch.equal(boxed.maps[chosen], fill_boxes(whole.boxes, tiny.SIZE)[chosen])
    assert torch.equal(boxed.boxes, whole.boxes)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_whatever_is_dropped_stays_consistent(seed: int, obj: float, to_box: float) -> None:
    whole = described()
    left = drop_conditions(whole, Dropping(0.1, obj, to_box, 0.5), random(seed))
    empty = left.kinds == NOT_ASKED
    assert not left.maps[empty].any()
    assert not left.boxes[empty].any()
    assert (left.kinds[whole.kinds == NOT_ASKED] == NOT_ASKED).all()
    as_mask = left.kinds == AS_MASK
    assert torch.equal(left.maps[as_mask], whole.maps[as_mask])


def test_tight_boxes_equal_the_layouts_own() -> None:
    drawn = rasterize(tiny.layout(), tiny.SIZE)
    assert np.allclose(tight_boxes(torch.from_numpy(drawn.maps)[None])[0].numpy(), drawn.boxes)


def test_settle_forgets_what_left_the_frame() -> None:
    whole = described()
    moved = settle(Condition(torch.zeros_like(whole.maps), *(getattr(whole, n) for n in ("kinds", "boxes", "plane", "center", "age"))))  # fmt: skip  # noqa: E501
    assert not moved.kinds.any()
    assert not moved.boxes.any()


def test_an_ellipse_and_a_line_are_asked_as_outlines() -> None:
    head, femur = Ellipse((30.0, 32.0), (20.0, 12.0), 20.0), Polyline(((10.0, 30.0), (50.0, 36.0)), False, 4.0)
    layouts = [
        Layout("transventricular", "mm", 64.0, (LayoutObject.of("head", head),)),
        Layout("femur", "mm", 64.0, (LayoutObject.of("femur", femur),)),
    ]
    asked = condition_from_layouts(layouts, VOCABULARY, tiny.SIZE)
    for row, (layout, shape) in enumerate(zip(layouts, (head, femur), strict=True)):
        k = structure_index(layout.objects[0].structure)
        assert asked.kinds[row].nonzero().flatten().tolist() == [k]
        assert asked.kinds[row, k] == AS_MASK
        assert np.array_equal(asked.maps[row, k].numpy() > 0, shape.draw(64.0, tiny.SIZE))
        drawn = condition_from_layouts([layout.drawn(tiny.SIZE)], VOCABULARY, tiny.SIZE)
        assert torch.equal(drawn.maps[0], asked.maps[row])


def kidneys(*boxed: bool) -> Layout:
    left, right = Ellipse((16.0, 32.0), (8.0, 6.0)), Ellipse((48.0, 30.0), (8.0, 6.0))
    pair = [LayoutObject.of("kidney", shape) for shape in (left, right)]
    objects = [replace(o, shape=None) if box else o for o, box in zip(pair, boxed, strict=True)]
    return Layout("kidneys", "mm", 64.0, tuple(objects))


def test_two_kidneys_are_both_in_the_map_and_their_box_spans_them() -> None:
    asked, k = condition_from_layouts([kidneys(False, False)], VOCABULARY, tiny.SIZE), structure_index("kidney")
    assert ndimage.label(asked.maps[0, k].numpy())[1] == 2
    assert torch.allclose(asked.boxes[0, k], torch.tensor([8.0, 24.0, 56.0, 38.0]) / 64)


def test_two_boxes_are_asked_in_sampling_as_they_were_in_training() -> None:
    outlined = condition_from_layouts([kidneys(False, False)], VOCABULARY, tiny.SIZE)
    trained = drop_conditions(settle(outlined), Dropping(0, 0, 1, 0), random(2))
    k = structure_index("kidney")
    assert trained.kinds[0, k] == AS_BOX
    asked = condition_from_layouts([kidneys(True, True)], VOCABULARY, tiny.SIZE)
    assert torch.equal(asked.maps[0, k], trained.maps[0, k])
    assert ndimage.label(trained.maps[0, k].numpy())[1] == 2


def test_a_structure_is_asked_in_one_way_only() -> None:
    mixed, boxes = (condition_from_layouts([kidneys(*k)], VOCABULARY, tiny.SIZE) for k in ((True, False), (True, True)))
    assert torch.equal(mixed.kinds, boxes.kinds)
    assert torch.equal(mixed.maps, boxes.maps)


def test_a_derived_age_counts_as_an_age() -> None:
    stated = replace(tiny.layout(), age_weeks=22.0)
    derived = replace(stated, age_derived=True)
    asked = condition_from_layouts([stated, derived, tiny.layout()], VOCABULARY, tiny.SIZE)
    assert asked.age[:2].tolist() == [22.0, 22.0]
    assert asked.age[2].isnan()


def test_plane_center_and_age_are_left_out_each_by_itself() -> None:
    whole = condition_from_layouts([replace(tiny.layout(), age_weeks=22.0)] * 400, VOCABULARY, tiny.SIZE)
    left = drop_conditions(whole, Dropping(0, 0, 0, 0.5), random(1))
    gone = torch.stack([left.plane == 0, left.center == 0, left.age.isnan()]).float()
    assert ((gone.mean(1) - 0.5).abs() < 0.1).all()
    assert (torch.corrcoef(gone).fill_diagonal_(0).abs() < 0.15).all()
