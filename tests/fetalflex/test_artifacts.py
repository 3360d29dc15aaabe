import io
import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from fetalflex import artifacts
from fetalflex.errors import ArtifactError

greys = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@given(greys)
def test_png_gives_the_pixels_back_and_the_same_bytes_again(pixels: np.ndarray) -> None:
    data = artifacts.encode_png(pixels)
    assert np.array_equal(artifacts.decode_png(data), pixels)
    assert artifacts.encode_png(np.asfortranarray(pixels)) == data
    assert artifacts.picture(pixels, "case") == {"bytes": data, "path": "case.png"}


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), bool), np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_png_refuses_what_is_no_8_bit_grey_image(pixels: np.ndarray) -> None:
    with pytest.raises(ArtifactError, match="8-bit grey"):
        artifacts.encode_png(pixels)


@given(st.data())
def test_damaged_png_is_our_error_or_a_picture_never_another_error(data: st.DataObject) -> None:
    good = bytearray(artifacts.encode_png(np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)))
    for place in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=3)):
        good[place] ^= data.draw(st.integers(1, 255))
    with suppress(ArtifactError):
        assert artifacts.decode_png(bytes(good)).dtype == np.uint8


@given(st.integers(0, 60))
def test_truncated_png_is_damaged(length: int) -> None:
    whole = artifacts.encode_png(np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8))
    with pytest.raises(ArtifactError, match="damaged"):
        artifacts.decode_png(whole[:length])


def test_png_of_absurd_size_is_refused_before_it_is_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(ArtifactError, match="damaged"):
        artifacts.decode_png(artifacts.encode_png(np.zeros((2, 2), np.uint8))[:8] + chunk)


def test_only_png_passes_for_png() -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, format="BMP")
    with pytest.raises(ArtifactError):
        artifacts.decode_png(out.getvalue())


def test_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with artifacts.atomic(target) as partial:
        partial.write_text("half")
        assert not target.exists()
        assert partial.parent == target.parent
    assert target.read_text() == "half"
    assert names(target.parent) == ["file.txt"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write() -> None:
        with artifacts.atomic(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


@given(values)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    artifacts.write_json(path, value)
    assert artifacts.read_json(path) == value


def test_json_does_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / "a", {"x": 1, "ä": [2.5]})
    artifacts.write_json(tmp_path / "b", {"ä": [2.5], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_numbers_that_are_none(tmp_path: Path, number: float) -> None:
    artifacts.write_json(tmp_path / "a.json", {"kid": 1.0})
    with pytest.raises(ArtifactError, match=r"a\.json.*finite"):
        artifacts.write_json(tmp_path / "a.json", {"kid": number})
    assert artifacts.read_json(tmp_path / "a.json") == {"kid": 1.0}
    assert names(tmp_path) == ["a.json"]
    (tmp_path / "b.json").write_text(json.dumps({"kid": number}))
    with pytest.raises(ArtifactError, match=r"b\.json"):
        artifacts.read_json(tmp_path / "b.json")


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_json_that_is_missing_or_damaged_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"report\.json: cannot be read as JSON"):
        artifacts.read_json(path)


def test_file_hash_is_the_published_one(tmp_path: Path) -> None:
    """Source: FIPS 180-4, the example of one block."""
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert artifacts.file_sha256(tmp_path / "abc") == expected
    with pytest.raises(ArtifactError, match="missing"):
        artifacts.file_sha256(tmp_path / "missing")


def test_tree_hash_sees_names_and_bytes_but_neither_place_nor_order(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, str]) -> str:
        root = tmp_path / name / "models"
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        single = tmp_path / name / "single"
        single.write_text("x")
        assert artifacts.tree_sha256([root, single]) == artifacts.tree_sha256([single, root])
        return artifacts.tree_sha256([root, single])

    first = tree("one", {"a": "1", "deep/b": "2"})
    assert tree("two", {"deep/b": "2", "a": "1"}) == first
    assert tree("three", {"a": "1", "deep/c": "2"}) != first
    assert tree("four", {"a": "1", "deep/b": "3"}) != first
    assert tree("five", {"a": "12", "deep/b": ""}) != first
