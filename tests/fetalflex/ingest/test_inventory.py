import re
from pathlib import Path

import pytest

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import ArtifactError, SourceError
from fetalflex.ingest import inventory
from fetalflex.ingest.inventory import build_manifest, locate, read_manifest, scan, write_manifest
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


def test_the_manifest_holds_hashes_and_nothing_else(tmp_path: Path) -> None:
    entries, _ = build_manifest(write_center(tmp_path / "jane-doe"), KEY, {})
    write_manifest(tmp_path / "jane.manifest", entries)
    head, *lines = (tmp_path / "jane.manifest").read_text().splitlines()
    assert head.startswith("#")
    assert len(lines) == 9
    assert all(re.fullmatch(r"[0-9a-f]{32} [0-9a-f]{32}", line) for line in lines)
    assert lines == sorted(lines)
    assert read_manifest(tmp_path / "jane.manifest") == entries


def test_the_manifest_follows_content_path_and_key(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made")
    entries, known = build_manifest(folder, KEY, {})
    assert build_manifest(folder, KEY, {})[0] == entries
    assert build_manifest(folder, PseudonymKey(b"another secret key", ""), {})[0] != entries
    changed = folder / "p0" / "im0.dcm"
    changed.write_bytes(changed.read_bytes() + b"\0\0")
    after, _ = build_manifest(folder, KEY, known)
    assert sum(after[name] != entries[name] for name in entries) == 1


def test_an_unchanged_folder_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_center(tmp_path / "made")
    entries, known = build_manifest(folder, KEY, {})
    monkeypatch.setattr(inventory, "file_sha256", lambda path: pytest.fail("a file was read"))
    assert build_manifest(folder, KEY, known) == (entries, known)


@pytest.mark.parametrize("text", ["", "a b c\n", "# other\n", inventory.MANIFEST_HEAD + "\nx y z\n"])
def test_refuses_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.manifest").write_text(text)
    with pytest.raises(ArtifactError, match=r"a\.manifest"):
        read_manifest(tmp_path / "a.manifest")
