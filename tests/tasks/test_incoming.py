"""Raw files before the chain begins: roles, orphans, manifests."""

from pathlib import Path

import pytest

from fetalflex.deid.keys import DEMO_KEY, PseudonymKey
from fetalflex.errors import ParameterError, SourceError
from fetalflex.params import Params, parse
from tasks import incoming

KEY = PseudonymKey(DEMO_KEY, "test")
CENTER = "title: A\nrole: {role}\nlicence: none\n"


def _params(**centers: str) -> Params:
    return parse({"preset": "x", "ingest": {"centers": centers}}, Params, "params.yaml")


def test_frames_of_a_center_that_left_are_removed_and_others_kept(tmp_path: Path) -> None:
    for name in ("frames/a", "frames/gone", "test_only/a"):
        (tmp_path / "data" / name).mkdir(parents=True)
    incoming.remove_orphans(tmp_path, _params(a="frames"))
    assert sorted(str(p.relative_to(tmp_path / "data")) for p in tmp_path.glob("data/*/*")) == ["frames/a"]


@pytest.mark.parametrize(("role", "folder"), [("test_only", "frames"), ("normal", "test_only")])
def test_a_role_that_contradicts_the_folder_is_refused(tmp_path: Path, role: str, folder: str) -> None:
    (tmp_path / "centers").mkdir()
    (tmp_path / "centers/a.yaml").write_text(CENTER.format(role=role))
    with pytest.raises(ParameterError, match=r"ingest.centers.a: found '" + folder):
        incoming.check_centers(tmp_path, _params(a=folder))


def test_centers_for_tests_alone_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "centers").mkdir()
    (tmp_path / "centers/a.yaml").write_text(CENTER.format(role="test_only"))
    with pytest.raises(ParameterError, match=r"ingest.centers: found a, for tests only; expected at least one.*import"):
        incoming.prepare(tmp_path, _params(a="test_only"))


def test_a_missing_raw_folder_without_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"center a: the folder incoming/a is missing.*fetalflex import"):
        incoming.refresh_manifest(tmp_path, "a", KEY)


def test_an_empty_raw_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "incoming/a").mkdir(parents=True)
    with pytest.raises(SourceError, match="a"):
        incoming.refresh_manifest(tmp_path, "a", KEY)


def test_a_manifest_changes_with_content_and_not_with_time(tmp_path: Path) -> None:
    raw = tmp_path / "incoming/a/x.dcm"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"one")
    incoming.refresh_manifest(tmp_path, "a", KEY)
    path = tmp_path / "incoming/a.manifest"
    first = path.read_bytes()
    raw.touch()
    assert not incoming.stale_manifest(tmp_path, "a", KEY)
    raw.write_bytes(b"other")
    assert incoming.stale_manifest(tmp_path, "a", KEY)
    incoming.refresh_manifest(tmp_path, "a", KEY)
    assert path.read_bytes() != first
    assert b"x.dcm" not in path.read_bytes()


def test_without_raw_files_the_committed_manifest_stands(tmp_path: Path) -> None:
    path = tmp_path / "incoming/a.manifest"
    path.parent.mkdir()
    path.write_text("committed")
    incoming.refresh_manifest(tmp_path, "a", KEY)
    assert path.read_text() == "committed"
