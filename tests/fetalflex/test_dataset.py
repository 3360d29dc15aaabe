import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fetalflex import tables
from fetalflex.anatomy.ontology import structure_index
from fetalflex.artifacts import picture
from fetalflex.dataset import (
    ABSENT,
    EXPERT,
    EXPERT_BOX,
    PREDICTED,
    Cases,
    canvas_box,
    from_canvas,
    load_cases,
    to_canvas,
)
from fetalflex.errors import AnnotationError, ArtifactError, LayoutError

HEAD, CSP, VENTRICLE = (structure_index(n) for n in ("head", "csp", "lateral-ventricle"))
sides = st.integers(8, 200)
canvases = st.sampled_from([32, 64, 128])
Row = dict[str, Any]


def name(number: int) -> str:
    return f"{number:016d}"


def frame_row(number: int, height: int = 48, width: int = 96, **changes: Any) -> Row:
    pixels = np.random.default_rng(number).integers(0, 255, (height, width), np.uint8)
    row: Row = {
        "case_id": name(number),
        "center": "center-a",
        "patient": name(number // 2),
        "plane": "transventricular",
    }
    row |= {
        "image": picture(pixels, name(number)),
        "age_weeks": 22.0,
        "spacing_mm": 0.5,
        "height": height,
        "width": width,
    }
    return row | {"device": "d", "pixels": "0" * 64, "phash": "0" * 16, "level": 60.0, "marks": "[]"} | changes


def mask_row(number: int, structure: str, mask: np.ndarray | None = None, **changes: Any) -> Row:
    row: Row = {"case_id": name(number), "center": "center-a", "structure": structure, "source": "expert"}
    row |= {"mask": None if mask is None else picture(mask.astype(np.uint8) * 255, structure), "confidence": 1.0}
    return row | {"x0": 24.0, "y0": 12.0, "x1": 72.0, "y1": 36.0} | changes


def join(tmp_path: Path, frames: list[Row], masks: list[Row], groups: dict[int, str], size: int = 32) -> Cases:
    """Through files, as the stages do it."""
    splits = [
        {"case_id": name(i), "center": "center-a", "patient": "p", "cluster": "c", "group": g, "moved_from": None}
        for i, g in groups.items()
    ]
    read: list[pl.DataFrame] = []
    for rows, schema in ((frames, tables.Frames), (masks, tables.Masks), (splits, tables.Splits)):
        tables.write_shard(tmp_path / f"{schema.__name__}.parquet", rows, schema)
        read.append(tables.read_shards([tmp_path / f"{schema.__name__}.parquet"], schema))
    return load_cases(*read, size)


def rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


@given(sides, sides, canvases)
def test_an_image_fills_the_longer_side_and_is_centred_in_the_other(height: int, width: int, size: int) -> None:
    h, w, top, left = canvas_box(height, width, size)
    assert max(h, w) == size
    assert abs(min(h, w) - size * min(height, width) / max(height, width)) <= 0.5 or min(h, w) == 1
    for inner, start in ((h, top), (w, left)):
        assert start >= 0
        assert 0 <= (size - inner - start) - start <= 1


@given(sides, sides, canvases)
def test_a_white_image_is_white_within_its_box_and_black_around_it(height: int, width: int, size: int) -> None:
    canvas = to_canvas(np.full((height, width), 255, np.uint8), size)
    h, w, top, left = canvas_box(height, width, size)
    assert (canvas.dtype, canvas.shape) == (np.uint8, (size, size))
    assert (canvas[top : top + h, left : left + w] == 255).all()
    assert canvas.sum() == 255 * h * w


@given(arrays(np.uint8, (32, 32)))
def test_an_image_of_the_canvas_size_is_unchanged(pixels: np.ndarray) -> None:
    assert np.array_equal(to_canvas(pixels, 32), pixels)
    assert np.array_equal(to_canvas(pixels > 99, 32, mask=True), pixels > 99)


def test_shrinking_averages_so_that_speckle_is_not_aliased() -> None:
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 200
    assert np.unique(to_canvas(checks.astype(np.uint8), 32)).tolist() == [100]


@given(sides, sides, st.sampled_from([64, 128]), st.data())
def test_a_mask_comes_back_from_the_canvas_up_to_its_edge(
    height: int, width: int, size: int, data: st.DataObject
) -> None:
    x0, y0 = data.draw(st.integers(0, width - 4)), data.draw(st.integers(0, height - 4))
    x1, y1 = data.draw(st.integers(x0 + 4, width)), data.draw(st.integers(y0 + 4, height))
    pixel = max(height, width) / size  # frame pixels per canvas pixel
    assume(min(x1 - x0, y1 - y0) >= 4 * pixel)
    mask = rectangle(height, width, (x0, y0, x1, y1))
    canvas = to_canvas(mask, size, mask=True)
    back = from_canvas(canvas, height, width)
    assert (canvas.dtype, back.dtype, back.shape) == (np.bool_, np.bool_, mask.shape)
    edge = int(np.ceil(pixel)) + 1
    inner = rectangle(height, width, (x0 + edge, y0 + edge, max(x0 + edge, x1 - edge), max(y0 + edge, y1 - edge)))
    outer = rectangle(height, width, (max(0, x0 - edge), max(0, y0 - edge), x1 + edge, y1 + edge))
    assert not (inner & ~back).any()
    assert not (back & ~outer).any()


def test_cases_are_ordered_by_id_and_only_those_of_the_splits(tmp_path: Path) -> None:
    cases = join(tmp_path, [frame_row(i) for i in (3, 1, 2, 0)], [], {2: "test", 3: "train", 1: "judge"})
    assert cases.ids.tolist() == [name(1), name(2), name(3)]
    assert cases.groups.tolist() == ["judge", "test", "train"]
    assert cases.patients.tolist() == [name(0), name(1), name(1)]
    assert (len(cases), cases.size) == (3, 32)
    assert cases.of_group("test").ids.tolist() == [name(2)]
    assert len(cases.of_group("nobody")) == 0
    assert cases.take([2, 0]).ids.tolist() == [name(3), name(1)]
    assert not cases.sources.any()


def test_spacing_is_that_of_the_canvas_and_unknown_stays_unknown(tmp_path: Path) -> None:
    frames = [frame_row(0, 48, 96, spacing_mm=0.5), frame_row(1, spacing_mm=None, age_weeks=None), frame_row(2, 16, 12)]
    cases = join(tmp_path, frames, [], dict.fromkeys(range(3), "train"))
    assert cases.spacings[[0, 2]].tolist() == [0.5 * 96 / 32, 0.5 * 16 / 32]
    assert np.isnan(cases.spacings[1])
    assert np.isnan(cases.ages).tolist() == [False, True, False]
    assert cases.layout(0).extent == 48.0
    assert (cases.layout(0).unit, cases.layout(1).unit) == ("mm", "image")
    assert (cases.layout(0).age_weeks, cases.layout(1).age_weeks) == (22.0, None)


def test_padding_is_not_valid(tmp_path: Path) -> None:
    cases = join(tmp_path, [frame_row(0, 48, 96)], [], {0: "train"})
    assert cases.valid[0, 8:24].all()
    assert cases.valid.sum() == 16 * 32
    assert not cases.images[~cases.valid].any()


def test_absent_expert_predicted_and_expert_box_are_told_apart(tmp_path: Path) -> None:
    shape = rectangle(48, 96, (24, 12, 72, 36)) & (np.indices((48, 96)).sum(axis=0) > 40)
    masks = [
        mask_row(0, "head", shape),
        mask_row(0, "csp", shape, source="predicted", confidence=0.75),
        mask_row(0, "lateral-ventricle"),
    ]
    cases = join(tmp_path, [frame_row(0), frame_row(1)], masks, {0: "train", 1: "train"})
    assert cases.sources[0, [HEAD, CSP, VENTRICLE]].tolist() == [EXPERT, PREDICTED, EXPERT_BOX]
    assert cases.sources[1].tolist() == [ABSENT] * cases.sources.shape[1]
    assert cases.confidences[0, [HEAD, CSP, VENTRICLE]].tolist() == [1.0, 0.75, 1.0]
    assert np.array_equal(cases.masks[0, HEAD], to_canvas(shape, 32, mask=True))
    assert np.array_equal(cases.masks[0, VENTRICLE], rectangle(32, 32, (8, 12, 24, 20)))
    layout = cases.layout(0)
    found = {o.structure: o for o in layout.objects}
    assert {s: o.mask is None for s, o in found.items()} == {"head": False, "csp": False, "lateral-ventricle": True}
    assert found["lateral-ventricle"].box == (12.0, 18.0, 36.0, 30.0)  # mm: 8 to 24 and 12 to 20 pixels of 1.5 mm
    assert (layout.plane, layout.center) == ("transventricular", "center-a")
    assert cases.layout(1).objects == ()


def test_a_structure_too_small_to_see_becomes_its_box(tmp_path: Path) -> None:
    dot = rectangle(480, 960, (481, 240, 483, 242))
    box = {"x0": 481.0, "y0": 240.0, "x1": 483.0, "y1": 242.0}
    cases = join(tmp_path, [frame_row(0, 480, 960)], [mask_row(0, "csp", dot, **box)], {0: "train"})
    assert cases.sources[0, CSP] == EXPERT
    assert np.argwhere(cases.masks[0, CSP]).tolist() == [[16, 16]]


@given(st.floats(0, 90), st.floats(0, 45), st.floats(0.1, 90), st.floats(0.1, 45))
def test_a_box_is_never_lost_and_stays_within_the_image(x0: float, y0: float, w: float, h: float) -> None:
    item = {"case_id": "c", "structure": "csp", "source": "expert", "mask": None, "confidence": 1.0}
    item |= {"x0": x0, "y0": y0, "x1": min(96.0, x0 + w), "y1": min(48.0, y0 + h)}
    splits = pl.DataFrame({"case_id": [name(0)], "group": ["train"]})
    cases = load_cases(pl.DataFrame([frame_row(0)]), pl.DataFrame([item | {"case_id": name(0)}]), splits, 32)
    assert cases.masks[0, CSP].any()
    assert not (cases.masks[0, CSP] & ~cases.valid[0]).any()


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    groups = {0: "train", 1: "train"}
    with pytest.raises(ArtifactError, match=f"1 cases of the splits have no frame .first: {name(1)}.; re-run"):
        join(tmp_path, [frame_row(0)], [], groups)
    del groups[1]
    with pytest.raises(ArtifactError, match=rf"case {name(0)}: the mask of head is \(9, 9\), its frame \(48, 96\)"):
        join(tmp_path, [frame_row(0)], [mask_row(0, "head", np.ones((9, 9), bool))], groups)
    with pytest.raises(AnnotationError, match="'tail' is unknown"):
        join(tmp_path, [frame_row(0)], [mask_row(0, "tail")], groups)
    with pytest.raises(LayoutError, match="'sagittal' is unknown"):
        join(tmp_path, [frame_row(0, plane="sagittal")], [], groups)
    twice = pl.DataFrame([frame_row(0), frame_row(0)])
    with pytest.raises(ArtifactError, match="more than once"):
        load_cases(twice, pl.DataFrame(), pl.DataFrame({"case_id": [name(0)], "group": ["train"]}), 32)


def test_packed_cases_come_back_the_same(tmp_path: Path, tiny_cases: Cases) -> None:
    for file in ("a.npz", "b.npz", "packed"):
        tiny_cases.save(tmp_path / file)
        again = Cases.load(tmp_path / file)
        for field in fields(Cases):
            one, other = getattr(tiny_cases, field.name), getattr(again, field.name)
            assert one.dtype == other.dtype
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz", "packed"]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_nothing_is_pickled_in_packed_cases(tmp_path: Path, tiny_cases: Cases) -> None:
    loose = {f.name: getattr(tiny_cases, f.name) for f in fields(Cases)}
    loose["ids"] = loose["ids"].astype(object)
    Cases(**loose).save(tmp_path / "a.npz")
    assert Cases.load(tmp_path / "a.npz").ids.dtype.kind == "U"
    with (tmp_path / "evil.npz").open("wb") as stream:
        np.savez(stream, **loose)
    with pytest.raises(ArtifactError, match=r"evil\.npz: no packed cases"):
        Cases.load(tmp_path / "evil.npz")


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:300] + bytes(b ^ 255 for b in data[300:400]) + data[400:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda _: b"", lambda _: b"words", lambda _: b"PK\x03\x04 no zip"])
def test_damaged_packed_cases_are_named(tmp_path: Path, tiny_cases: Cases, damage: Any) -> None:
    tiny_cases.save(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(damage((tmp_path / "a.npz").read_bytes()))
    with pytest.raises(ArtifactError, match=r"a\.npz: no packed cases .*pack them again"):
        Cases.load(tmp_path / "a.npz")


def test_missing_packed_cases_and_missing_arrays_are_named(tmp_path: Path, tiny_cases: Cases) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.npz"):
        Cases.load(tmp_path / "gone.npz")
    np.savez(tmp_path / "other.npz", ids=tiny_cases.ids)
    with pytest.raises(ArtifactError, match=r"other\.npz: no packed cases .*centers"):
        Cases.load(tmp_path / "other.npz")
    np.save(tmp_path / "single.npy", tiny_cases.images)
    with pytest.raises(ArtifactError, match=r"single\.npy"):
        Cases.load(tmp_path / "single.npy")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(ArtifactError, match=r"empty\.npz"):
        Cases.load(tmp_path / "empty.npz")


def test_layouts_of_cases_can_be_drawn_again(tiny_cases: Cases) -> None:
    from fetalflex.anatomy.layout import rasterize

    for i in range(len(tiny_cases)):
        maps = rasterize(tiny_cases.layout(i), tiny_cases.size)
        assert np.array_equal(maps.maps > 0, tiny_cases.masks[i])
        assert np.array_equal(maps.kinds == 2, (tiny_cases.sources[i] == EXPERT))
        assert np.array_equal(maps.kinds == 1, (tiny_cases.sources[i] == EXPERT_BOX))


def test_a_structure_of_another_plane_is_no_layout(tiny_cases: Cases) -> None:
    changed = tiny_cases.take([0])
    changed.planes[0] = 7
    with pytest.raises(LayoutError, match="'head' is no structure of plane 'femur'"):
        changed.layout(0)


def test_a_real_outline_survives_the_canvas(real_data: Path) -> None:
    """hc18: the outline of the head, filled, loses little on 64 pixels and back."""
    from scipy import ndimage

    found = sorted((real_data / "hc18").rglob("*_Annotation.png"))[:5]
    if not found:
        pytest.skip("FETALFLEX_DATA has no annotations of hc18")
    for path in found:
        with Image.open(path) as opened:
            mask = ndimage.binary_fill_holes(np.asarray(opened.convert("L")) > 127)
        back = from_canvas(to_canvas(mask, 64, mask=True), *mask.shape)
        assert 2 * (mask & back).sum() / (mask.sum() + back.sum()) > 0.96
