"""Typical outlines: what a box of this place and proportion usually holds."""

from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy.layout import Layout, LayoutObject, box_mask, mask_box
from fetalflex.anatomy.ontology import plane_index, structure_index
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.dataset import EXPERT, PREDICTED, Cases
from fetalflex.diffusion.agreement import dice
from fetalflex.masks.outlines import LEAST_CASES, TypicalOutlines
from fetalflex.masks.segmenter import Segmenter
from tests.fetalflex import tiny

SIZE, VENTRICLE, HEAD = 64, structure_index("lateral-ventricle"), structure_index("head")


def slanted(x: float, y: float, a: float = 9, b: float = 3) -> np.ndarray:
    """An ellipse around (x, y) pixels that slants with the side of the canvas that it lies on."""
    angle = 0.7 if x < SIZE / 2 else -0.7
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    return (along / a) ** 2 + (across / b) ** 2 <= 1


def places(count: int) -> list[tuple[float, float]]:
    random = np.random.default_rng(5)
    return [
        (float(random.choice([20, 44]) + random.uniform(-3, 3)), float(random.uniform(26, 38))) for _ in range(count)
    ]


def ventricles(count: int = 40, source: int = EXPERT) -> Cases:
    base = tiny.cases(count)
    masks = np.zeros((count, base.masks.shape[1], SIZE, SIZE), bool)
    sources = np.zeros_like(base.sources)
    masks[:, HEAD], sources[:, HEAD] = tiny.ellipse(32, 32, 28, 20, SIZE), EXPERT
    for i, place in enumerate(places(count)):
        masks[i, VENTRICLE], sources[i, VENTRICLE] = slanted(*place), source
    blank = np.zeros((count, SIZE, SIZE), np.uint8)
    return replace(base, images=blank, masks=masks, sources=sources, valid=blank == 0, ignored=blank > 0)


@cache
def model() -> TypicalOutlines:
    outlines = TypicalOutlines()
    outlines.fit(ventricles())
    return outlines


@pytest.fixture
def fitted() -> TypicalOutlines:
    return model()


def asked(mask: np.ndarray, name: str = "lateral-ventricle", head: bool = True, edited: bool = False) -> Layout:
    box, frame = mask_box(mask, 1.0), mask_box(tiny.ellipse(32, 32, 28, 20, SIZE), 1.0)
    assert box is not None
    assert frame is not None
    frames = (LayoutObject("head", frame),) if head else ()
    return Layout("transventricular", "image", 1.0, (LayoutObject(name, box, edited=edited), *frames))


def drawn(outlines: TypicalOutlines, layout: Layout, name: str = "lateral-ventricle") -> np.ndarray:
    item = outlines.drawn(layout, SIZE).find(name)
    assert item is not None
    assert item.mask is not None
    return item.mask


@pytest.mark.parametrize("place", [(19.0, 30.0), (21.0, 35.0), (43.0, 29.0), (46.0, 36.0)])
def test_a_box_holds_the_outline_of_its_side(fitted: TypicalOutlines, place: tuple[float, float]) -> None:
    truth = slanted(*place)
    box = mask_box(truth, 1.0)
    assert box is not None
    assert dice(drawn(fitted, asked(truth)), truth) > 0.9
    assert dice(box_mask(box, 1.0, SIZE), truth) < 0.7
    assert dice(drawn(fitted, asked(truth)), truth[:, ::-1]) < 0.5, "of the other side it would slant the other way"


def test_without_the_frame_the_mean_outline_is_left(fitted: TypicalOutlines) -> None:
    truth = slanted(20, 32)
    lone = drawn(fitted, asked(truth, head=False))
    assert 0.4 < dice(lone, truth) < dice(drawn(fitted, asked(truth)), truth)


def test_the_outline_is_drawn_at_any_size(fitted: TypicalOutlines) -> None:
    layout = asked(slanted(20, 32))
    small, large = (fitted.drawn(layout, size).objects[0].mask for size in (64, 256))
    assert small is not None
    assert large is not None
    assert dice(large.reshape(64, 4, 64, 4).mean((1, 3)) > 0.5, small) > 0.9


@given(
    st.floats(0.02, 0.7), st.floats(0.02, 0.7), st.floats(0.02, 0.28), st.floats(0.02, 0.28), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_an_outline_never_leaves_its_box(x: float, y: float, width: float, height: float, head: bool) -> None:
    item = LayoutObject("lateral-ventricle", (x, y, x + width, y + height))
    heads = (LayoutObject("head", (0.0, 0.0, 1.0, 1.0)),) if head else ()
    odds = model().odds(item, Layout("transventricular", "image", 1.0, (item, *heads)), SIZE)
    assert odds is not None
    box = box_mask(item.box, 1.0, SIZE)
    assert np.isfinite(odds[box]).all()
    assert (odds[~box] == -np.inf).all()


def test_a_mirrored_box_holds_the_mirrored_outline(fitted: TypicalOutlines) -> None:
    for place in places(6):
        mask = slanted(*place)
        assert dice(drawn(fitted, asked(mask)), drawn(fitted, asked(mask[:, ::-1]))[:, ::-1]) > 0.99


def test_what_is_explicit_edited_or_unknown_stays_as_it_is(fitted: TypicalOutlines) -> None:
    mask = slanted(20, 32)
    box = mask_box(mask, 1.0)
    assert box is not None
    explicit = (
        LayoutObject("lateral-ventricle", box, mask), LayoutObject("lateral-ventricle", box, edited=True),
        LayoutObject.of("lateral-ventricle", Ellipse((0.4, 0.5), (0.1, 0.05))), LayoutObject("csp", box),
    )  # fmt: skip
    for item in explicit:
        layout = Layout("transventricular", "image", 1.0, (item,))
        assert fitted.drawn(layout, SIZE).objects[0] is item
    assert not fitted.knows("csp")


@pytest.mark.parametrize(("count", "source"), [(LEAST_CASES - 1, EXPERT), (40, PREDICTED)])
def test_few_outlines_or_predicted_ones_tell_nothing(count: int, source: int) -> None:
    outlines = TypicalOutlines()
    outlines.fit(ventricles(count, source))
    assert not outlines.knows("lateral-ventricle")


def test_two_kidneys_are_two_outlines_and_planes_without_a_frame_have_a_mean() -> None:
    count, kidney, nose = LEAST_CASES // 2, structure_index("kidney"), structure_index("nose")
    cases = ventricles(count)
    cases.masks[:], cases.sources[:] = False, 0
    cases.masks[:, kidney] = tiny.ellipse(16, 32, 8, 6, SIZE) | tiny.ellipse(48, 32, 8, 6, SIZE)
    cases.masks[:, nose], cases.sources[:, [kidney, nose]] = tiny.ellipse(32, 32, 8, 6, SIZE), EXPERT
    cases.planes[:] = plane_index("kidneys")
    outlines = TypicalOutlines()
    outlines.fit(cases)
    assert outlines.knows("kidney")
    assert not outlines.knows("nose"), "half as many"
    box = LayoutObject("kidney", (0.1, 0.1, 0.35, 0.3))
    mask = outlines.drawn(Layout("kidneys", "image", 1.0, (box,)), SIZE).objects[0].mask
    assert mask is not None
    assert 0.7 < mask.sum() / box_mask(box.box, 1.0, SIZE).sum() < 0.85, "an ellipse fills pi / 4 of its box"


def test_a_guide_keeps_what_it_has_seen(tmp_path: Path) -> None:
    guide = deepcopy(tiny.segmenter())
    guide.outlines.fit(tiny.cases(LEAST_CASES))
    guide.save(tmp_path)
    layout = tiny.layout(boxed=True)
    first, second = (part.outlines.drawn(layout, 32).to_json() for part in (guide, Segmenter.load(tmp_path)))
    assert first == second != layout.to_json()
