"""Stages read the frames of the listed centers of role `frames`, and of no others."""

from pathlib import Path

import numpy as np
import pytest

from fetalflex import tables
from fetalflex.artifacts import picture
from fetalflex.errors import ArtifactError
from fetalflex.params import Params, parse
from tasks.cases import read_findings, read_frames, training_centers
from tasks.downstream import real_findings


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


def _profile(root: Path, center: str, findings: str) -> None:
    (root / "centers").mkdir(exist_ok=True)
    (root / "centers" / f"{center}.yaml").write_text(
        f"title: A\nlicence: none\nrole: test_only\nfindings: {findings}\n"
    )


def test_real_findings_are_read_for_tests_with_their_planes(tmp_path: Path) -> None:
    _write(tmp_path, "frames", "a")
    for center in ("abnormal", "unlabelled"):
        _write(tmp_path, "test_only", center)
    _profile(tmp_path, "abnormal", "{chiari: chiari}")
    _profile(tmp_path, "unlabelled", "{}")
    params = _params(a="frames", abnormal="test_only", unlabelled="test_only")
    with pytest.raises(ArtifactError, match=r"center abnormal: .*findings.parquet.*fetalflex run"):
        read_findings(tmp_path, params)
    row = {"case_id": f"{'abnormal':x<16}", "finding": "chiari"}
    tables.write_shard(tmp_path / "data/test_only/abnormal/findings.parquet", [row], tables.Findings)
    images, planes = real_findings(read_findings(tmp_path, params), 32)
    assert images.images.shape == (1, 32, 32)
    assert (images.labels.tolist(), planes.tolist(), images.centers.tolist()) == (["chiari"], ["brain"], ["abnormal"])
    assert images.patients.tolist() == ["abnormal/" + "p" * 16]


def test_without_such_a_center_nothing_real_is_abnormal(tmp_path: Path) -> None:
    images, planes = real_findings(read_findings(tmp_path, _params(a="frames")), 32)
    assert (len(images), len(planes), images.images.shape) == (0, 0, (0, 32, 32))
