import numpy as np
import pytest

from fetalflex.anatomy.layout import Layout, LayoutObject, box_mask, mask_box
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure_index
from fetalflex.anatomy.shapes import Ellipse, Polyline
from fetalflex.diffusion.agreement import adapt, agreement, agreements, dice, largest_parts, outline
from fetalflex.masks.outlines import LEAST_CASES, TypicalOutlines
from tests.fetalflex import tiny

HEAD, CSP = structure_index("head"), structure_index("csp")


def seen(**masks: np.ndarray) -> np.ndarray:
    chances = np.full((len(STRUCTURE_NAMES), tiny.SIZE, tiny.SIZE), 0.02, np.float32)
    for name, mask in masks.items():
        chances[structure_index(name)][mask] = 0.9
    return chances


def truth() -> np.ndarray:
    return seen(head=tiny.ellipse(16, 16, 10, 7), csp=tiny.ellipse(19, 16, 2.5, 1.5))


@pytest.mark.parametrize("boxed", [False, True])
def test_what_was_asked_agrees_fully(boxed: bool) -> None:
    assert agreement(truth(), tiny.layout(boxed=boxed), ("head", "csp")) == 1.0


def test_what_is_missing_scores_zero() -> None:
    assert agreement(seen(head=tiny.ellipse(16, 16, 10, 7)), tiny.layout(), ("head", "csp")) == 0.5


def test_structures_that_the_guide_does_not_know_do_not_count() -> None:
    assert agreement(seen(head=tiny.ellipse(16, 16, 10, 7)), tiny.layout(), ("head",)) == 1.0
    assert np.isnan(agreement(truth(), tiny.layout(), ()))


def test_dice_of_two_empty_masks_is_one() -> None:
    empty = np.zeros((4, 4), bool)
    assert dice(empty, empty) == 1.0


def test_box_becomes_the_outline_seen_inside_it() -> None:
    pixels = tiny.cases(1).images[0]
    adapted = adapt(tiny.layout(boxed=True), pixels, truth())
    head = adapted.find("head")
    assert head is not None
    assert head.mask is not None
    assert dice(head.mask, tiny.ellipse(16, 16, 10, 7)) > 0.9
    assert not (head.mask & ~box_mask(head.box, 64.0, tiny.SIZE)).any()


def test_box_stays_a_box_where_nothing_is_seen() -> None:
    adapted = adapt(tiny.layout(boxed=True), tiny.cases(1).images[0], seen())
    assert all(o.mask is None for o in adapted.objects)


def usual() -> TypicalOutlines:
    outlines = TypicalOutlines()
    outlines.fit(tiny.cases(LEAST_CASES))
    return outlines


def test_the_usual_outline_stands_where_nothing_is_seen() -> None:
    asked, typical = tiny.layout(boxed=True), usual()
    adapted = adapt(asked, tiny.cases(1).images[0], seen(), typical)
    assert adapted.to_json() == typical.drawn(asked, tiny.SIZE).to_json()
    assert dice(adapted.objects[0].mask, tiny.ellipse(16, 16, 10, 7)) > 0.95


def test_what_is_seen_and_what_is_usual_both_shape_an_outline() -> None:
    asked, typical = tiny.layout(boxed=True), usual()
    box = asked.objects[0].box
    corner, blank = box_mask(box, 64.0, tiny.SIZE), np.full((tiny.SIZE, tiny.SIZE), 90, np.uint8)
    whole = seen(head=corner)  # a segmenter that takes the whole box for the head
    alone = adapt(asked, blank, whole).objects[0].mask
    both = adapt(asked, blank, whole, typical).objects[0].mask
    expected = typical.drawn(asked, tiny.SIZE).objects[0].mask
    assert dice(alone, corner) > 0.98
    assert dice(both, corner) < dice(alone, corner), "the corners of a box are no head, whoever says so"
    assert dice(both, expected) > dice(alone, expected)
    slit = tiny.ellipse(16, 16, 10, 4)
    unsure = np.where(slit, 0.95, 0.05).astype(np.float32) * np.ones((len(STRUCTURE_NAMES), 1, 1), np.float32)
    narrow = adapt(asked, blank, unsure, typical).objects[0].mask
    assert dice(narrow, slit) > dice(expected, slit), "what is seen clearly counts"


def test_dark_fluid_pulls_the_outline_and_bright_fluid_does_not() -> None:
    item = LayoutObject("csp", (16.0, 16.0, 48.0, 48.0))
    box = box_mask(item.box, 64.0, tiny.SIZE)
    core, fluid = tiny.ellipse(16, 16, 4.5, 4.5), tiny.ellipse(16, 16, 6, 6)
    chance = np.where(core, 0.7, np.where(box, 0.45, 0.02)).astype(np.float32)
    dark = outline(item, 64.0, np.where(fluid, 10, 120).astype(np.uint8), chance)
    bright = outline(item, 64.0, np.where(fluid, 250, 120).astype(np.uint8), chance)
    assert dark is not None
    assert bright is not None
    assert dice(bright, core) > 0.9
    assert dice(dark, fluid) > 0.95 > dice(bright, fluid)


LEFT, RIGHT = tiny.ellipse(9, 16, 4, 5), tiny.ellipse(23, 16, 4, 5)
SPECK = tiny.ellipse(16, 4, 1.5, 1.5)


def kidneys(*items: LayoutObject, absent: frozenset[str] = frozenset()) -> Layout:
    return Layout("kidneys", "mm", 64.0, items, absent=absent)


def kidney(mask: np.ndarray, boxed: bool) -> LayoutObject:
    box = mask_box(mask, 64.0)
    assert box is not None
    return LayoutObject("kidney", box, None if boxed else mask)


@pytest.mark.parametrize("boxed", [False, True])
def test_several_objects_of_one_structure_agree_as_their_union(boxed: bool) -> None:
    asked = kidneys(kidney(LEFT, boxed), kidney(RIGHT, boxed))
    both, one = seen(kidney=LEFT | RIGHT | SPECK), seen(kidney=LEFT | SPECK)
    assert agreement(both, asked, ("kidney",)) == 1.0
    assert 0.5 < agreement(one, asked, ("kidney",)) < 0.75
    assert agreements(both, asked, ("kidney", "spine")) == {"kidney": 1.0}


def test_a_shape_is_explicit_and_compared_as_it_is_drawn() -> None:
    shape = Ellipse((32.0, 32.0), (20.0, 12.0), 30.0)
    asked = Layout("transventricular", "mm", 64.0, (LayoutObject.of("head", shape),))
    assert agreement(seen(head=shape.draw(64.0, tiny.SIZE)), asked, ("head",)) == 1.0
    assert agreement(seen(head=box_mask(shape.bounds(), 64.0, tiny.SIZE)), asked, ("head",)) < 0.9


def test_shapes_are_never_adapted() -> None:
    line = Polyline(((20.0, 20.0), (44.0, 20.0), (40.0, 40.0)))
    items = (LayoutObject.of("head", Ellipse((32.0, 32.0), (20.0, 14.0))), LayoutObject.of("csp", line))
    adapted = adapt(Layout("transventricular", "mm", 64.0, items), tiny.cases(1).images[0], truth())
    assert adapted.objects == items


def test_every_box_of_a_structure_gets_its_own_outline() -> None:
    pixels = np.full((tiny.SIZE, tiny.SIZE), 90, np.uint8)
    adapted = adapt(kidneys(kidney(LEFT, True), kidney(RIGHT, True)), pixels, seen(kidney=LEFT | RIGHT))
    for item, truth_mask in zip(adapted.objects, (LEFT, RIGHT), strict=True):
        assert item.mask is not None
        assert dice(item.mask, truth_mask) > 0.85


def test_an_absent_structure_agrees_where_none_of_it_is_seen() -> None:
    asked = kidneys(absent=frozenset({"renal-pelvis"}))
    assert agreement(seen(), asked, ("renal-pelvis",)) == 1.0
    assert agreement(seen(**{"renal-pelvis": SPECK}), asked, ("renal-pelvis",)) == 0.0
    assert np.isnan(agreement(seen(), asked, ("kidney",)))
    with_kidney = kidneys(kidney(LEFT, False), absent=frozenset({"renal-pelvis"}))
    assert agreement(seen(kidney=LEFT, **{"renal-pelvis": SPECK}), with_kidney, ("kidney", "renal-pelvis")) == 0.5


def test_largest_parts_are_the_largest_and_without_holes() -> None:
    ring = LEFT & ~tiny.ellipse(9, 16, 1.5, 1.5)
    parts = largest_parts(ring | RIGHT | SPECK, 2)
    assert len(parts) == 2
    assert {tuple(map(tuple, p)) for p in parts} == {tuple(map(tuple, m)) for m in (LEFT, RIGHT)}
    assert len(largest_parts(LEFT, 3)) == 1
    assert largest_parts(np.zeros((4, 4), bool), 2) == []
