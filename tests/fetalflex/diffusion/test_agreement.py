import numpy as np
import pytest

from fetalflex.anatomy.layout import LayoutObject, box_mask
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure_index
from fetalflex.diffusion.agreement import adapt, agreement, dice, outline
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
