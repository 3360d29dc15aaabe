"""The manifest of a center's raw files."""

import re
from pathlib import Path

import pytest

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import ArtifactError
from fetalflex.ingest import manifest
from fetalflex.ingest.manifest import build_manifest, read_manifest, write_manifest
from tests.fetalflex.dicom.samples import KEY, write_center


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
    monkeypatch.setattr(manifest, "file_sha256", lambda path: pytest.fail("a file was read"))
    assert build_manifest(folder, KEY, known) == (entries, known)


@pytest.mark.parametrize("text", ["", "a b c\n", "# other\n", manifest.MANIFEST_HEAD + "\nx y z\n"])
def test_refuses_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.manifest").write_text(text)
    with pytest.raises(ArtifactError, match=r"a\.manifest"):
        read_manifest(tmp_path / "a.manifest")
