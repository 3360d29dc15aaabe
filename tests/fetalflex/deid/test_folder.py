import json
import os
from pathlib import Path

import pytest

from fetalflex.deid import folder as subject
from fetalflex.deid.folder import deidentify_folder, read_outcomes, summarize
from fetalflex.deid.keys import PseudonymKey
from fetalflex.dicom.read import read_header
from fetalflex.errors import SourceError, UsageError
from fetalflex.masks.annotations import is_annotation, referenced_instances
from fetalflex.params import Deidentify
from tests.fetalflex.dicom.samples import KEY, write_center, write_image

OPTIONS = Deidentify()


def run(source: Path, target: Path, key: PseudonymKey = KEY, options: Deidentify = OPTIONS) -> list[subject.Progress]:
    """De-identify a folder to its end."""
    return list(deidentify_folder(source, target, options, "made", key))


@pytest.mark.slow
def test_a_tree_goes_through_and_what_cannot_has_a_reason(tmp_path: Path) -> None:
    source = write_center(tmp_path / "Jones_Ann", 3)
    (source / "notes of Jones.txt").write_text("Jones")
    (source / "copy.dcm").write_bytes((source / "p0" / "im0.dcm").read_bytes())
    write_image(source / "zz" / "im0 again.dcm", 0, study_description="other")
    (source / "link.dcm").symlink_to("/etc/hostname")
    progress = run(source, tmp_path / "out")
    assert (progress[-1].done, progress[-1].total, progress[-1].resumed) == (9, 9, 0)
    outcomes = read_outcomes(tmp_path / "out")
    summary = summarize(outcomes)
    assert summary["outcomes"] == {"duplicate": 1, "not_dicom": 1, "outside_tree": 1, "uid_conflict": 1, "written": 5}
    written = [tmp_path / "out" / o.output for o in outcomes if o.outcome == "written"]
    headers = [read_header(p) for p in written]
    images = {h.SOPInstanceUID for h in headers if not is_annotation(h)}
    references = {uid for h in headers if is_annotation(h) for uid in referenced_instances(h)}
    assert len(images) == 3
    assert references < images
    assert not any("Jones" in str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*"))
    assert "Jones" not in json.dumps(summary)
    assert str(tmp_path) not in json.dumps(summary)
    _goes_on(source, tmp_path / "out", written)


def _goes_on(source: Path, target: Path, written: list[Path]) -> None:
    """A finished run does nothing again; what is missing, new or half noted is done."""
    times = {p: p.stat().st_mtime_ns for p in written}
    assert run(source, target)[-1].resumed == 9
    assert {p: p.stat().st_mtime_ns for p in written} == times
    written[0].unlink()
    write_image(source / "new.dcm", 8)
    with (target / subject.JOURNAL).open("a") as stream:
        stream.write('{"file_id": "half a li')
    assert run(source, target)[-1].resumed == 8
    assert written[0].is_file()
    assert summarize(read_outcomes(target))["outcomes"]["written"] == 6


def test_another_key_or_profile_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.dcm", 1)
    run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="another profile or key"):
        run(tmp_path / "in", tmp_path / "out", PseudonymKey(b"another secret of tests", "tests"))
    with pytest.raises(UsageError, match="another profile or key"):
        run(tmp_path / "in", tmp_path / "out", options=Deidentify(dates="remove"))


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is missing"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no file"):
        run(tmp_path / "empty", tmp_path / "out")
    write_image(tmp_path / "in" / "a.dcm", 1)
    with pytest.raises(UsageError, match="lies in"):
        run(tmp_path / "in", tmp_path / "in" / "out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        run(tmp_path / "in", tmp_path / "used")
    assert not os.path.lexists(tmp_path / "in" / "out")
