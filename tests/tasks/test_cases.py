"""Stages read the frames of the listed centers of role `frames`, and of no others."""

from pathlib import Path

import numpy as np
import pytest

from fetalflex import tables
from fetalflex.artifacts import picture
from fetalflex.errors import ArtifactError
from fetalflex.params import Params, parse
from tasks.cases import read_frames, training_centers


def _params(**centers: str) -> Params:
    return parse({"preset": "x", "ingest": {"centers": centers}}, Params, "params.yaml")


def _write(root: Path, folder: str, center: str) -> None:
    row = {
        "case_id": f"{center:x<16}", "center": center, "patient": "p" * 16, "plane": "brain", "age_weeks": None,
        "image": picture(np.zeros((16, 16), np.uint8), "x"), "spacing_mm": None, "height": 16, "width": 16,
        "device": "d", "pixels": "0" * 64, "phash": "0" * 16, "level": 60.0, "marks": "[]",
    }  # fmt: skip
    place = root / "data" / folder / center
    place.mkdir(parents=True)
    tables.write_shard(place / "frames-00.parquet", [row], tables.Frames)


def test_a_test_only_center_is_never_read_nor_one_that_left(tmp_path: Path) -> None:
    _write(tmp_path, "frames", "a")
    _write(tmp_path, "frames", "left")
    _write(tmp_path, "test_only", "abnormal")
    params = _params(a="frames", abnormal="test_only")
    assert training_centers(params) == ["a"]
    assert read_frames(tmp_path, params)["center"].to_list() == ["a"]


def test_a_center_without_frames_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"center a: .*fetalflex run"):
        read_frames(tmp_path, _params(a="frames"))
