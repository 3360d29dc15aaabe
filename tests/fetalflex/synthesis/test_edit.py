import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fetalflex.anatomy.layout import Layout
from fetalflex.errors import AnomalyError, LayoutError, SourceError, UsageError
from fetalflex.synthesis.edit import Edit, check_size, edit_picture, predict_layout, settle_plane
from fetalflex.synthesis.picture import Picture, read_picture
from tests.fetalflex import tiny
from tests.fetalflex.dicom.samples import write_image
from tests.fetalflex.synthesis import made

SMALL_HEAD = (("microcephaly", -4.0),)


def edit(**changes: object) -> Edit:
    return replace(Edit(made.picture(), SMALL_HEAD, layout=tiny.layout()), **changes)  # type: ignore[arg-type]


def load(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_both_images_are_equal_bit_for_bit_outside_of_the_region(tmp_path: Path) -> None:
    said = edit_picture(made.model(), edit(), tmp_path / "out")
    for folder in (tmp_path / "out", tmp_path / "out" / "model"):
        normal, abnormal, region = (load(folder / f"{n}.png") for n in ("normal", "abnormal", "region"))
        assert set(np.unique(region)) == {0, 255}
        assert np.array_equal(normal[region == 0], abnormal[region == 0])
        assert not np.array_equal(normal, abnormal)
    assert np.array_equal(load(tmp_path / "out" / "normal.png"), made.picture().pixels)
    normal, abnormal = (
        Layout.from_json((tmp_path / "out" / f"layout_{n}.json").read_text()) for n in ("normal", "abnormal")
    )
    assert normal.to_json() == tiny.layout().to_json()
    assert abnormal.find("head").edited  # type: ignore[union-attr]
    assert json.loads((tmp_path / "out" / "edit.json").read_text()) == said
    assert (said["plane"], said["plane_given"], said["layout_given"]) == ("transventricular", True, True)


def test_plane_and_layout_are_read_where_they_are_not_given(tmp_path: Path) -> None:
    said = edit_picture(made.model(), edit(layout=None), tmp_path / "out")
    assert (said["plane"], said["plane_given"], said["layout_given"]) == ("transventricular", False, False)
    assert 0.5 <= said["plane_confidence"] <= 1
    assert Layout.from_json((tmp_path / "out" / "layout_normal.json").read_text()).find("head") is not None


def test_the_same_edit_again_leaves_the_folder_and_another_is_refused(tmp_path: Path) -> None:
    first = edit_picture(made.model(), edit(), tmp_path / "out")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    assert edit_picture(made.model(), edit(), tmp_path / "out") == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == times
    with pytest.raises(UsageError, match="something else"):
        edit_picture(made.model(), edit(seed=1), tmp_path / "out")


def test_an_image_of_another_plane_is_refused() -> None:
    with pytest.raises(LayoutError, match="another plane"):
        settle_plane(made.model(), made.picture(0), "transventricular")  # the negative: a femur's plane here
    assert settle_plane(made.model(), made.picture(1), "brain").given


def test_a_model_without_a_reader_must_be_told_the_plane() -> None:
    blind = replace(made.model(), plane_reader=None)
    assert settle_plane(blind, made.picture(), "brain").confidence is None
    with pytest.raises(UsageError, match="--plane"):
        settle_plane(blind, made.picture(), None)


def test_predicted_layout_is_in_mm_where_the_picture_is() -> None:
    layout = predict_layout(made.model(), made.picture(spacing_mm=0.5), "transventricular")
    assert (layout.unit, layout.extent) == ("mm", 0.5 * 96)
    assert predict_layout(made.model(), made.picture(), "transventricular").unit == "image"


def test_a_picture_of_another_size_than_its_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="another size"):
        check_size(made.picture(spacing_mm=1.0), tiny.layout())
    check_size(made.picture(spacing_mm=64 / 96), tiny.layout())
    with pytest.raises(LayoutError, match="another size"):
        edit_picture(made.model(), edit(picture=made.picture(spacing_mm=1.0)), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"anomalies": (("ventriculomegaly", 99.0),)}, AnomalyError, "expected 10"),
        ({"anomalies": (("ventriculomegaly", 14.0),)}, AnomalyError, "lateral-ventricle"),
        ({"plane": "femur"}, LayoutError, "another plane|layout is of plane"),
        ({"center": "mars"}, UsageError, "no style"),
        ({"picture": Picture(np.zeros((64, 64), np.uint8)), "layout": None, "plane": "abdomen"}, LayoutError, "plane"),
    ],
)
def test_what_cannot_be_is_one_error_and_nothing_is_written(
    tmp_path: Path, change: dict[str, object], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        edit_picture(made.model(), edit(**change), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@given(st.integers(32, 90), st.integers(32, 90), st.integers(0, 10**6))
def test_pasting_changes_nothing_outside_of_the_region(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    picture = Picture(random.integers(0, 256, (height, width)).astype(np.uint8))
    before, after = (random.integers(0, 256, (32, 32)).astype(np.uint8) for _ in range(2))
    pasted, where = picture.paste(before, after, random.random((32, 32)) < 0.2)
    assert pasted.shape == where.shape == (height, width)
    assert np.array_equal(pasted[~where], picture.pixels[~where])


def test_pasting_no_change_changes_nothing() -> None:
    canvas = made.picture().canvas(32)
    pasted, _ = made.picture().paste(canvas, canvas, np.ones((32, 32), bool))
    assert np.array_equal(pasted, made.picture().pixels)


def test_pictures_are_read_from_png_jpeg_and_dicom(tmp_path: Path) -> None:
    pixels = made.picture().pixels
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.stack([pixels] * 3, 2)).save(tmp_path / "a.jpg", quality=100)
    assert np.array_equal(read_picture(tmp_path / "a.png").pixels, pixels)
    assert read_picture(tmp_path / "a.jpg").pixels.shape == pixels.shape
    write_image(tmp_path / "a.dcm", spacing_mm=(0.5, 0.5), region=(30, 20, 150, 110))
    found = read_picture(tmp_path / "a.dcm")
    assert (found.pixels.shape, found.spacing_mm) == ((90, 120), 0.5)


def test_a_dicom_file_is_edited_in_its_own_size_and_millimetres(tmp_path: Path) -> None:
    screen = np.zeros((120, 160), np.uint8)
    screen[20:110, 30:150] = made.picture(1, 4).pixels[15:105, 4:124]
    spacing = 64 / 120
    write_image(tmp_path / "a.dcm", pixels=screen, spacing_mm=(spacing, spacing), region=(30, 20, 150, 110))
    blind = replace(made.model(), plane_reader=None)
    asked = edit(picture=read_picture(tmp_path / "a.dcm"), plane="transventricular")
    edit_picture(blind, asked, tmp_path / "out")
    normal, abnormal, region = (load(tmp_path / "out" / f"{n}.png") for n in ("normal", "abnormal", "region"))
    assert normal.shape == (90, 120)
    assert np.array_equal(normal[region == 0], abnormal[region == 0])
    assert not np.array_equal(normal, abnormal)


@pytest.mark.parametrize("content", [b"", b"no image", b"\0" * 128 + b"DICM" + b"\xff" * 50])
def test_what_is_no_picture_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.png"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(SourceError, match="missing"):
        read_picture(tmp_path / "missing.png")


def test_pictures_too_small_or_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 80), np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(SourceError, match="80 x 8 pixels"):
        read_picture(tmp_path / "small.png")
    with pytest.raises(SourceError, match="I;16"):
        read_picture(tmp_path / "deep.png")
