import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fetalflex.anatomy.layout import Box, Layout, LayoutObject, mask_box
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.anatomy.variation import vary_layout
from fetalflex.dataset import Cases
from fetalflex.rng import generator

SIDE = 48
seeds = st.integers(0, 10_000)
amounts = st.floats(0.005, 0.15)


def ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    return ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1


def part(structure: str, shape: tuple[float, float, float, float], masks: bool, extent: float) -> LayoutObject:
    x, y, a, b = shape
    if masks:
        mask = ellipse(*shape)
        return LayoutObject(structure, mask_box(mask, extent), mask)  # type: ignore[arg-type]
    return LayoutObject(structure, tuple(v * extent for v in (x - a, y - b, x + a, y + b)))  # type: ignore[arg-type]


def brain(
    masks: bool, extent: float = 1.0, shape: tuple[float, float, float, float] = (0.5, 0.5, 0.34, 0.22)
) -> Layout:
    """A head with its cavum in front and a ventricle behind; ellipses wholly inside the head's."""
    x, y, a, b = shape
    inner = [
        ("csp", (x - 0.6 * a, y, 0.2 * a, 0.2 * b)),
        ("lateral-ventricle", (x + 0.5 * a, y + 0.3 * b, 0.3 * a, 0.2 * b)),
    ]
    objects = [part("head", shape, masks, extent), *(part(n, s, masks, extent) for n, s in inner)]
    return Layout("transventricular", "image" if extent == 1.0 else "mm", extent, tuple(objects), "center-a", 24.0)


def centre(box: Box) -> np.ndarray:
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2


def within(inner: Box, outer: Box, slack: float = 1e-9) -> bool:
    return all(i >= o - slack for i, o in zip(inner[:2], outer[:2], strict=True)) and all(
        i <= o + slack for i, o in zip(inner[2:], outer[2:], strict=True)
    )


@pytest.mark.parametrize("masks", [True, False])
def test_amount_0_is_the_layout_itself(masks: bool) -> None:
    layout = brain(masks)
    assert vary_layout(layout, 0.0, generator(1)) is layout


@given(seeds, amounts, st.booleans())
def test_the_same_seed_gives_the_same_layout(seed: int, amount: float, masks: bool) -> None:
    first, again = (vary_layout(brain(masks), amount, generator(seed, "case")) for _ in range(2))
    assert first.to_json() == again.to_json()


def test_another_seed_gives_another_layout() -> None:
    assert len({vary_layout(brain(False), 0.06, generator(i)).to_json() for i in range(20)}) == 20


@given(seeds, amounts, st.booleans(), st.sampled_from([1.0, 120.0]))
def test_only_the_geometry_changes(seed: int, amount: float, masks: bool, extent: float) -> None:
    layout = brain(masks, extent)
    varied = vary_layout(layout, amount, generator(seed))
    plain = ("plane", "unit", "extent", "center", "age_weeks")
    assert [getattr(varied, n) for n in plain] == [getattr(layout, n) for n in plain]
    assert [o.structure for o in varied.objects] == [o.structure for o in layout.objects]
    assert [o.mask is None for o in varied.objects] == [o.mask is None for o in layout.objects]


@given(seeds, amounts, st.sampled_from([1.0, 120.0]))
def test_inner_boxes_stay_in_the_head_however_it_turns(seed: int, amount: float, extent: float) -> None:
    outer, *inner = vary_layout(brain(False, extent), amount, generator(seed)).objects
    assert all(within(o.box, outer.box, 1e-9 * extent) for o in inner)


@given(seeds, amounts)
def test_inner_masks_stay_in_the_head_pixel_by_pixel(seed: int, amount: float) -> None:
    outer, *inner = vary_layout(brain(True), amount, generator(seed)).objects
    for item in inner:
        assert item.mask is not None
        assert not (item.mask & ~outer.mask).any()
        assert item.mask.any()


@given(seeds, amounts, st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.floats(0.18, 0.29), st.booleans())
def test_all_stays_inside_the_frame(seed: int, amount: float, x: float, y: float, a: float, masks: bool) -> None:
    layout = brain(masks, shape=(x, y, a, 0.7 * a))
    for item in vary_layout(layout, amount, generator(seed)).objects:
        assert within(item.box, (0.0, 0.0, 1.0, 1.0), 0.0)
        assert item.mask is None or mask_box(item.mask, 1.0) == item.box


@given(seeds, amounts, st.booleans())
def test_distances_keep_their_proportions(seed: int, amount: float, masks: bool) -> None:
    """A similarity: every distance between two structures grows by the same factor."""
    before, after = brain(masks), vary_layout(brain(masks), amount, generator(seed))
    pairs = [(0, 1), (0, 2), (1, 2)]
    old, new = (
        np.array([np.linalg.norm(centre(x.objects[i].box) - centre(x.objects[j].box)) for i, j in pairs])
        for x in (before, after)
    )
    assert np.ptp(new / old) <= (0.35 if masks else 1e-6)  # masks: a pixel of rounding over the smallest distance


@given(seeds, amounts)
def test_masks_and_boxes_move_together(seed: int, amount: float) -> None:
    drawn, boxed = vary_layout(brain(True), amount, generator(seed)), vary_layout(brain(False), amount, generator(seed))
    sizes = [o.box[2] - o.box[0] for o in boxed.objects]
    assume(max(o.box[2] for o in boxed.objects) < 0.97 and min(o.box[0] for o in boxed.objects) > 0.03)
    assume(max(o.box[3] for o in boxed.objects) < 0.97 and min(o.box[1] for o in boxed.objects) > 0.03)
    for one, other, size in zip(drawn.objects, boxed.objects, sizes, strict=True):
        assert np.abs(np.subtract(one.box, other.box)).max() < 1.6 / SIDE, (one.structure, size)


def test_depth_is_never_mirrored() -> None:
    """The cavum lies left or right, and the ventricle of this layout always on the deeper side of the midline."""
    varied = [vary_layout(brain(False), 0.01, generator(i)) for i in range(60)]
    steps = np.array([centre(v.objects[2].box) - centre(v.objects[0].box) for v in varied])
    assert 10 < (steps[:, 0] > 0).sum() < 50
    assert (steps[:, 1] > 0).all()


def test_the_spread_follows_the_amount() -> None:
    def spread(amount: float) -> float:
        layout = brain(False, shape=(0.5, 0.5, 0.2, 0.15))
        widths = [np.subtract(*vary_layout(layout, amount, generator(i)).objects[0].box[2::-2]) for i in range(200)]
        return float(np.std(widths))

    assert 1.5 < spread(0.08) / spread(0.04) < 2.8


def test_a_head_that_the_frame_cuts_may_still_vary() -> None:
    mask = ellipse(0.5, 0.9, 0.3, 0.2)
    layout = Layout("transventricular", "image", 1.0, (LayoutObject("head", mask_box(mask, 1.0), mask),))  # type: ignore[arg-type]
    varied = [vary_layout(layout, 0.05, generator(i)).objects[0].mask for i in range(10)]
    assert any(m is not None and not np.array_equal(m, mask) for m in varied)


def test_layouts_of_cases_vary(tiny_cases: Cases) -> None:
    for i in range(len(tiny_cases)):
        layout = tiny_cases.layout(i)
        varied = vary_layout(layout, 0.06, generator(7, str(tiny_cases.ids[i])))
        assert [o.structure for o in varied.objects] == [o.structure for o in layout.objects]
        assert varied.to_json() != layout.to_json()


@given(seeds, amounts)
def test_shapes_move_as_their_pixels_do(seed: int, amount: float) -> None:
    shape = Ellipse((0.5, 0.45), (0.2, 0.1), 20.0)
    layout = Layout("brain", "image", 1.0, (LayoutObject.of("head", shape, edited=True),), absent=frozenset({"csp"}))
    moved = vary_layout(layout, amount, generator(seed, "shape"))
    drawn = vary_layout(layout.drawn(128), amount, generator(seed, "shape"))
    one, other = moved.objects[0], drawn.objects[0]
    assert one.box == one.shape.bounds()
    assert one.edited
    assert moved.absent == {"csp"}
    assert (one.draw(1.0, 128) ^ other.mask).sum() < 0.12 * other.mask.sum()
