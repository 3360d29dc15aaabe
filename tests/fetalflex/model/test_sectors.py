import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fetalflex.model.sectors import ALIKE, COMPARED, MOST, Sectors, fill, outline, overlaps
from tests.fetalflex import tiny

SIZE = tiny.SIZE


def fan(half: float = 0.6, apex: float = -8.0, depth: float = 30.0) -> np.ndarray:
    """A sector with its tip above the image, bool [S, S]."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    beside, below = columns - SIZE / 2 + 0.5, rows - apex
    return (np.abs(beside) <= half * below) & (np.hypot(beside, below) <= depth - apex)


def curved(half: float, radius: float) -> np.ndarray:
    """The sector of a curved probe: an arc at its top between two horns, bool [4 S, 4 S]."""
    rows, columns = np.mgrid[: 4 * SIZE, : 4 * SIZE]
    beside, below = columns - 2 * SIZE + 0.5, rows + radius - 12.0
    reach = np.hypot(beside, below)
    return (np.abs(np.arctan2(beside, below)) <= half) & (reach >= radius) & (reach <= radius + 2.5 * SIZE)


def tops(region: np.ndarray, width: float) -> np.ndarray:
    """The first rows of a region's middle columns."""
    middle, reach = region.shape[1] // 2, int(0.8 * width)
    return region[:, middle - reach : middle + reach].argmax(0)


def overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    return overlaps(one[None], others)[0]


def shown(region: np.ndarray, seed: int = 1) -> np.ndarray:
    """Tissue in a region, with dark fluid in its middle: uint8 [S, S]."""
    image = np.random.default_rng(seed).integers(40, 200, region.shape).astype(np.uint8) * region
    image[12:18, 12:18] = 0
    return image


def with_images(images: list[np.ndarray], centers: list[str]):
    return replace(tiny.cases(len(images)), images=np.stack(images), centers=np.array(centers))


@given(half=st.floats(0.3, 1.2), depth=st.floats(21, 40))
def test_the_outline_of_tissue_is_its_sector_and_fluid_no_hole(half: float, depth: float) -> None:
    region = fan(half, depth=depth)
    found = outline(shown(region))
    assert found is not None
    assert all(0 <= v <= 1 for corner in found for v in corner)
    assert overlap(fill([found], SIZE)[0], region[None])[0] > 0.9


@given(half=st.floats(0.4, 0.7), radius=st.floats(20, 40))
def test_the_top_of_a_curved_probe_is_an_arc(half: float, radius: float) -> None:
    region = curved(half, radius)
    found = outline(np.uint8(90) * region)
    assert found is not None
    drawn = fill([found], len(region))
    assert overlap(region, drawn)[0] > 0.97
    lowest = np.abs(tops(drawn[0], radius * half) - tops(region, radius * half))
    assert lowest.max() <= 2
    assert lowest.mean() < 1


def test_a_shadow_does_not_bend_the_arc_and_none_begins_at_a_flat_top() -> None:
    plain = np.uint8(90) * curved(0.5, 30)
    shaded = plain.copy()
    shaded[:60, 38:44] = 0
    with_shadow, without = (tops(fill([outline(i) or ()], len(i))[0], 15) for i in (shaded, plain))
    assert np.abs(with_shadow - without).max() <= 1
    flat = np.full((SIZE, SIZE), 90, np.uint8)
    whole = outline(flat)
    flat[:14, 5:19] = 0
    assert outline(flat) == whole
    flat[:14, 5:19], flat[:4, 10:12] = 90, 0
    assert outline(flat) == whole


def test_black_has_no_outline_and_the_noise_of_compression_is_black() -> None:
    assert outline(np.zeros((SIZE, SIZE), np.uint8)) is None
    noisy = np.maximum(shown(fan()), np.random.default_rng(2).integers(0, 4, (SIZE, SIZE)).astype(np.uint8))
    assert outline(noisy) == outline(shown(fan()))


def test_an_outline_is_drawn_on_every_canvas() -> None:
    found = outline(shown(fan()))
    assert found is not None
    large = fill([found], 4 * SIZE)[0]
    assert overlap(large[2::4, 2::4], fill([found], SIZE))[0] > 0.93


def test_each_center_has_its_own_sectors_once_and_the_most_frequent_first() -> None:
    narrow, wide, cut = fan(0.4), fan(1.0), fan(0.6, depth=20)
    images = [shown(r, i) for i, r in enumerate((cut, narrow, narrow, narrow, wide, np.zeros_like(wide)))]
    found = Sectors.of(with_images(images, ["a", "a", "a", "a", "b", "b"]))
    assert [len(found.known(c)) for c in ("a", "b")] == [2, 1]
    assert overlap(narrow, fill(found.known("a"), SIZE)).argmax() == 0
    assert overlap(wide, fill(found.known("b"), SIZE))[0] > ALIKE
    assert Sectors.of(with_images(images[-1:], ["c"])).outlines == {}


@pytest.mark.parametrize("center", [None, "", "elsewhere"])
def test_an_unknown_center_has_none(center: str | None) -> None:
    found = Sectors.of(with_images([shown(fan())], ["a"]))
    assert fill(found.known(center), SIZE).shape == (0, SIZE, SIZE)


@given(hnp.arrays(bool, (3, 4, 5)), hnp.arrays(bool, (2, 4, 5)))
def test_overlaps_are_intersections_over_unions(some: np.ndarray, others: np.ndarray) -> None:
    found = overlaps(some, others)
    for i, j in np.ndindex(3, 2):
        union = (some[i] | others[j]).sum()
        assert found[i, j] == pytest.approx((some[i] & others[j]).sum() / union if union else 0, abs=1e-6)


def test_json_gives_the_same_sectors() -> None:
    found = Sectors.of(with_images([shown(fan(h / 10), h) for h in range(3, 12)], ["a"] * 4 + ["b"] * 5))
    again = Sectors.read(json.loads(json.dumps(found.written())))
    assert again.outlines == found.outlines


def test_a_center_of_many_devices_keeps_so_many() -> None:
    images = [shown(fan(0.3 + w / 20, depth=d)) for w in range(14) for d in range(16, 34, 3)]
    found = Sectors.of(with_images(images, ["a"] * len(images)))
    assert len(found.outlines["a"]) <= MOST
    regions = fill(found.known("a"), COMPARED)
    assert all(overlap(r, np.delete(regions, i, 0)).max() < ALIKE for i, r in enumerate(regions))
