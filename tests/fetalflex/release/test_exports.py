"""What users get: each form is opened again by what its users open it with, and holds the same images."""

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fetalflex import tables
from fetalflex.anatomy.coco import decode_runs, layouts_from_coco, mask_of_runs
from fetalflex.anatomy.interchange import Reading
from fetalflex.artifacts import decode_png, file_sha256
from fetalflex.errors import ArtifactError
from fetalflex.release.exports.coco import encode_runs, runs_of
from fetalflex.release.exports.write import Counts, write_exports
from fetalflex.release.tables import HubImages, ReleasedImages
from tests.fetalflex.release.fake import NAMES, SIZE, layout, row, verdict, write_dataset

REJECTED = {NAMES[1]: "dice 0.1, must be >= 0.3"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exports")
    said = write_dataset(root, REJECTED)
    shards = sorted((root / "data" / "synthetic").glob("*"))
    *_, counts = write_exports(root / "out", shards, said, "0" * 64, "test")
    assert isinstance(counts, Counts)
    assert (counts.total, counts.by_split["rejected"], counts.by_anomaly["ventriculomegaly"]) == (4, 1, 1)
    return root / "out"


def test_the_table_names_every_image_and_its_files_by_hash(made: Path) -> None:
    table = tables.read_shards([made / "images.parquet"], ReleasedImages)
    assert tuple(table["image_id"]) == NAMES
    for item in table.iter_rows(named=True):
        folder = made / "dicom" / ("accepted" if item["accepted"] else "rejected")
        assert file_sha256(made / "coco" / "images" / f"{item['image_id']}.png") == item["sha256"]
        assert file_sha256(folder / f"{item['image_id']}.dcm") == item["dicom"]
        assert file_sha256(folder / f"{item['image_id']}-seg.dcm") == item["segmentation"]
        assert file_sha256(folder / f"{item['image_id']}-boxes.dcm") == item["boxes"]
    assert table.filter(~pl.col("accepted"))["reason"].to_list() == list(REJECTED.values())


def test_coco_gives_the_asked_layouts_back(made: Path) -> None:
    reading = Reading("transventricular")
    found = layouts_from_coco(made / "coco" / "accepted.json", reading)
    assert sorted(found) == [f"{n}.png" for n in NAMES if n not in REJECTED]
    for again in found.values():
        for name in ("head", "lateral-ventricle"):
            asked, read = layout().find(name), again.find(name)
            assert asked is not None
            assert read is not None
            assert np.array_equal(read.draw(again.extent, SIZE), asked.draw(1.0, SIZE))


def test_coco_counts_pixels_and_numbers_annotations_once(made: Path) -> None:
    value = json.loads((made / "coco" / "accepted.json").read_text())
    ids = [a["id"] for a in value["annotations"]]
    assert ids == list(range(1, len(ids) + 1)) == list(range(1, 10))
    ventricle = [a for a in value["annotations"] if a["area"] == 32]
    assert {tuple(a["bbox"]) for a in ventricle} == {(8, 10, 8, 4)}


def test_the_hub_form_holds_the_same_images_and_a_map_of_labels(made: Path) -> None:
    accepted = tables.read_shards((made / "huggingface" / "data").glob("accepted-*.parquet"), HubImages)
    rejected = tables.read_shards((made / "huggingface" / "data").glob("rejected-*.parquet"), HubImages)
    assert accepted.height == 3
    assert rejected["rejected_for"].to_list() == list(REJECTED.values())
    known = {i["image_id"]: i["sha256"] for i in pl.read_parquet(made / "images.parquet").iter_rows(named=True)}
    for item in accepted.iter_rows(named=True):
        assert hashlib.sha256(item["image"]["bytes"]).hexdigest() == known[item["image_id"]]
        labels = decode_png(item["labels"]["bytes"])
        assert (labels[11, 10], labels[5, 5], labels[0, 0]) == (3, 1, 0), "ventricle over head, head, nothing"


def test_dicom_holds_the_same_pixels_and_says_that_it_is_synthetic(made: Path) -> None:
    from pydicom import dcmread

    data = dcmread(made / "dicom" / "accepted" / f"{NAMES[0]}.dcm")
    assert data.SyntheticData == "YES"
    assert np.array_equal(data.pixel_array, decode_png((made / "coco" / "images" / f"{NAMES[0]}.png").read_bytes()))
    outlines = dcmread(made / "dicom" / "accepted" / f"{NAMES[0]}-seg.dcm")
    assert outlines.Modality == "SEG"
    assert outlines.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID


def test_equal_datasets_give_equal_files(made: Path, tmp_path: Path) -> None:
    said = write_dataset(tmp_path, REJECTED)
    *_, _ = write_exports(tmp_path / "out", sorted((tmp_path / "data" / "synthetic").glob("*")), said, "0" * 64, "test")
    for path in made.rglob("*"):
        if path.is_file():
            assert file_sha256(path) == file_sha256(tmp_path / "out" / path.relative_to(made)), path.name


def test_an_image_that_the_gate_does_not_know_stops_the_release(tmp_path: Path) -> None:
    tables.write_shard(tmp_path / "images-00.parquet", [row("e000000000000009")], tables.Synthetic)
    with pytest.raises(ArtifactError, match=r"e000000000000009: reports/gate\.json says nothing"):
        list(write_exports(tmp_path / "out", [tmp_path / "images-00.parquet"], verdict({}), "0" * 64, "test"))


@settings(max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 70), st.integers(1, 40))))
def test_run_lengths_are_read_back_as_written(mask: np.ndarray) -> None:
    runs = runs_of(mask)
    assert decode_runs(encode_runs(runs)) == runs
    assert np.array_equal(mask_of_runs(runs, *mask.shape), mask)
