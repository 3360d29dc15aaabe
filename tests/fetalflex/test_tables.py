import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex import tables
from fetalflex.artifacts import decode_png, picture
from fetalflex.errors import ArtifactError

SCHEMAS = [
    getattr(tables, n)
    for n in ("Frames", "Annotations", "Quarantine", "Masks", "Splits", "Duplicates", "Synthetic", "Scores")
]
Row = dict[str, Any]


def mask_row(number: int, **changes: Any) -> Row:
    pixels = np.full((8, 9), number % 256, np.uint8)
    row: Row = {
        "case_id": f"{number:016d}",
        "center": "center-a",
        "structure": "head",
        "source": "expert",
        "mask": picture(pixels, f"{number}"),
        "x0": 1.0,
        "y0": 1.0,
        "x1": 5.5,
        "y1": 6.0,
        "confidence": 1.0,
    }
    return row | changes


def quarantine_row(file: int, detail: str) -> Row:
    return {"file_id": f"{file:016d}", "reason": "truncated", "detail": detail}


@given(st.permutations(range(6)))
def test_equal_content_is_equal_bytes(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows = [mask_row(i) for i in range(6)]
    tables.write_shard(folder / "a.parquet", rows, tables.Masks)
    tables.write_shard(folder / "b.parquet", [rows[i] for i in order], tables.Masks)
    tables.write_shard(folder / "c.parquet", tables.read_shards([folder / "b.parquet"], tables.Masks), tables.Masks)
    first, *others = (folder.joinpath(f"{name}.parquet").read_bytes() for name in "abc")
    assert [first, first] == others


def test_equal_content_is_equal_bytes_without_a_primary_key(tmp_path: Path) -> None:
    rows = [quarantine_row(1, "b"), quarantine_row(1, "a"), quarantine_row(0, "c"), quarantine_row(1, "a")]
    tables.write_shard(tmp_path / "a.parquet", rows, tables.Quarantine)
    tables.write_shard(tmp_path / "b.parquet", rows[::-1], tables.Quarantine)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_rows_come_back_typed_and_sorted(tmp_path: Path) -> None:
    rows = [mask_row(2), mask_row(1, mask=None, source="predicted", confidence=0.5)]
    tables.write_shard(tmp_path / "m.parquet", rows, tables.Masks)
    table = tables.read_shards([tmp_path / "m.parquet"], tables.Masks)
    assert table["case_id"].to_list() == [f"{i:016d}" for i in (1, 2)]
    assert table.row(0, named=True) == rows[1]
    assert table.schema["source"] == pl.Enum(["expert", "predicted"])
    assert np.array_equal(decode_png(table["mask"][1]["bytes"]), np.full((8, 9), 2))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_no_rows_make_an_empty_shard_with_every_column(tmp_path: Path, schema: Any) -> None:
    tables.write_shard(tmp_path / "e.parquet", [], schema)
    read = tables.read_shards([tmp_path / "e.parquet"], schema)
    assert read.is_empty()
    assert read.schema == tables.read_shards([], schema).schema == schema.create_empty().schema


@pytest.mark.parametrize("schema", SCHEMAS)
def test_hugging_face_takes_every_column_for_what_the_metadata_say(tmp_path: Path, schema: Any) -> None:
    """It believes the metadata only where the Arrow field equals the feature's own; it has no dictionaries."""
    tables.write_shard(tmp_path / "e.parquet", [], schema)
    stored = pq.read_schema(tmp_path / "e.parquet")
    features = json.loads(stored.metadata[b"huggingface"])["info"]["features"]
    assert sorted(features) == sorted(stored.names)
    for field in stored:
        feature = features[field.name]
        if feature["_type"] == "Image":
            assert feature == {"_type": "Image"}
            own = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        else:
            assert sorted(feature) == ["_type", "dtype"]
            kinds = {"string": pa.string(), "bool": pa.bool_()}
            own = (kinds | {"float64": pa.float64(), "int32": pa.int32(), "int64": pa.int64()})[feature["dtype"]]
        assert field.equals(pa.field(field.name, own))


def test_pictures_are_images_to_hugging_face() -> None:
    schema = tables._arrow_schema(tables.Synthetic.create_empty().schema)
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert {n for n, f in features.items() if f["_type"] == "Image"} == {"image", "coarse", "region"}


def test_row_groups_are_small_so_that_a_viewer_reads_a_few_images(tmp_path: Path) -> None:
    tables.write_shard(tmp_path / "m.parquet", [mask_row(i) for i in range(150)], tables.Masks)
    stored = pq.ParquetFile(tmp_path / "m.parquet").metadata
    assert [stored.row_group(i).num_rows for i in range(stored.num_row_groups)] == [64, 64, 22]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"case_id": "short"}, "min_length"),
        ({"center": None}, "center.*nullability"),
        ({"confidence": 1.5}, "confidence.*max"),
        ({"confidence": float("nan")}, "nan"),
        ({"confidence": "high"}, "high"),
        ({"source": "nobody"}, "source"),
        ({"spacing": 1.0}, "unknown columns spacing; expected case_id"),
        ({"mask": b"png"}, "mask is bytes; expected a struct"),
        ({"mask": {"bytes": b"png"}}, "mask is dict; expected a struct"),
    ],
)
def test_a_row_that_breaks_the_schema_is_refused_on_one_line(tmp_path: Path, change: Row, said: str) -> None:
    with pytest.raises(ArtifactError, match=rf"^m\.parquet: rows break the schema Masks: .*{said}") as caught:
        tables.write_shard(tmp_path / "m.parquet", [mask_row(1), mask_row(2) | change], tables.Masks)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_word_outside_a_nullable_enum_is_refused_not_dropped(tmp_path: Path) -> None:
    row = {"case_id": "0" * 16, "center": "a", "patient": "p", "cluster": "c", "group": "train", "moved_from": "jugde"}
    with pytest.raises(ArtifactError, match="moved_from"):
        tables.write_shard(tmp_path / "s.parquet", [row], tables.Splits)


def test_one_key_twice_is_refused_within_a_shard_and_across_shards(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="primary_key"):
        tables.write_shard(tmp_path / "m.parquet", [mask_row(1), mask_row(1)], tables.Masks)
    paths = [tmp_path / "m-00.parquet", tmp_path / "m-01.parquet"]
    for path in paths:
        tables.write_shard(path, [mask_row(1)], tables.Masks)
    with pytest.raises(ArtifactError, match="2 shards of Masks: rows with the same case_id, structure"):
        tables.read_shards(paths, tables.Masks)


def test_shards_are_joined_in_the_order_of_their_names(tmp_path: Path) -> None:
    paths = [tmp_path / f"m-{i:02d}.parquet" for i in range(3)]
    for i, path in enumerate(paths):
        tables.write_shard(path, [mask_row(9 - i)], tables.Masks)
    read = tables.read_shards(iter(paths[::-1]), tables.Masks)
    assert read["case_id"].to_list() == [f"{i:016d}" for i in (9, 8, 7)]


def _cut(data: bytes) -> bytes:
    return data[:-40]


def _flip(data: bytes) -> bytes:
    return data[:60] + bytes(b ^ 255 for b in data[60:90]) + data[90:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda _: b"", lambda _: b"no parquet at all"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: Any) -> None:
    whole, bad = tmp_path / "m-00.parquet", tmp_path / "m-01.parquet"
    tables.write_shard(whole, [mask_row(1)], tables.Masks)
    bad.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(ArtifactError, match=r"m-01\.parquet: not a shard of Masks .*re-run the stage") as caught:
        tables.read_shards([whole, bad], tables.Masks)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_and_one_of_another_schema_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.parquet"):
        tables.read_shards([tmp_path / "gone.parquet"], tables.Masks)
    tables.write_shard(tmp_path / "q.parquet", [quarantine_row(1, "x")], tables.Quarantine)
    with pytest.raises(ArtifactError, match=r"q\.parquet: not a shard of Frames .*missing columns"):
        tables.read_shards([tmp_path / "q.parquet"], tables.Frames)


def test_a_killed_write_leaves_the_old_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.parquet"
    tables.write_shard(path, [mask_row(1)], tables.Masks)
    before = path.read_bytes()

    def half(_: Any, partial: Path, **__: Any) -> None:
        partial.write_bytes(b"PAR1 half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="no space"):
        tables.write_shard(path, [mask_row(2)], tables.Masks)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
