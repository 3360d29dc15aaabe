import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy.layout import rasterize
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
