from pathlib import Path

import pytest

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import SourceError
from fetalflex.ingest.inventory import scan
from fetalflex.ingest.manifest import build_manifest, locate
from tests.fetalflex.dicom.samples import KEY, write_center, write_image


def test_a_missing_or_empty_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"center absent: .* missing"):
        scan(tmp_path / "absent", KEY)
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"center empty: .* empty"):
        build_manifest(tmp_path / "empty", KEY, {})


def test_links_out_of_the_folder_are_refused_and_not_followed(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made", 2)
    write_image(tmp_path / "secret" / "x.dcm", 30)
    (folder / "file.dcm").symlink_to(tmp_path / "secret" / "x.dcm")
    (folder / "folder").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.dcm").symlink_to(tmp_path / "nowhere")
    found = scan(folder, KEY)
    assert len(found.images) == 2
    assert [r.reason for r in found.rejected] == ["outside_tree"] * 4
    assert len(build_manifest(folder, KEY, {})[0]) == 3


def test_links_within_the_folder_are_files_like_others(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made", 2)
    (folder / "again.dcm").symlink_to(folder / "p0" / "im0.dcm")
    assert [r.reason for r in scan(folder, KEY).rejected] == ["duplicate"]


def test_a_quarantine_row_leads_back_to_its_file_with_the_key_only(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made", 2)
    (folder / "notes.txt").write_text("x")
    (row,) = scan(folder, KEY).rejected
    assert locate(folder, KEY, row.file_id) == folder / "notes.txt"
    assert locate(folder, PseudonymKey(b"another secret key", ""), row.file_id) is None
