"""The planted set, small: phantoms alone; the whole is `python -m benchmarks.planted`."""

from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.judge_headers import Judge
from benchmarks.plant_headers import plant, table_tags
from benchmarks.planted import build, measure, passed
from tests.fetalflex.dicom.samples import write_image


def test_planting_covers_the_table() -> None:
    representations = {vr for _, vr in table_tags()}
    assert len(table_tags()) > 610
    assert representations >= {"LO", "SH", "ST", "LT", "UT", "PN", "DA", "TM", "DT", "UI", "SQ", "CS", "OB"}


def test_the_judge_finds_what_was_left(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", 2)
    data = dcmread(tmp_path / "a.dcm")
    planted = plant(data, "seed", "patient")
    data.save_as(tmp_path / "planted.dcm", enforce_file_format=True)
    judge = Judge("chosen")
    judge.judge(tmp_path / "planted.dcm", tmp_path / "planted.dcm", planted, "patient")
    assert len(judge.left) == sum(bool(p.needle) for p in planted) > 900
    assert sum(judge.right.values()) < 0.1 * len(planted)


@pytest.mark.slow
def test_nothing_planted_is_left_and_every_action_is_right(tmp_path: Path) -> None:
    cases = list(build(tmp_path, 4, real=False))
    figures = measure("fetalflex", cases, tmp_path)
    assert passed(figures, 5000), {
        k: figures[k] for k in ("wrong", "left", "mistakes", "lost", "inconsistent", "refused")
    }
