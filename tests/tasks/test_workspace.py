"""A workspace: what must be there, how it is made, how a center is added."""

import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import yaml

from fetalflex.errors import ParameterError, UsageError, WorkspaceError
from tasks import workspace
from tasks.workspace import add_center, check_ready, create_workspace, find_root, load_params, write_preset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made") / "ws"
    create_workspace(place, "tiny")
    return place


def test_a_new_workspace_is_ready(made: Path) -> None:
    check_ready(made)
    assert load_params(made).preset == "tiny"
    assert sorted(p.name for p in (made / "centers").iterdir()) == ["phantom-tiny-a.yaml", "phantom-tiny-b.yaml"]


def test_git_in_a_new_workspace_ignores_data_and_keeps_manifests(made: Path) -> None:
    def ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=made, check=False).returncode == 0

    assert ignored("incoming/a/x.dcm")
    assert ignored("data/frames/a/x")
    assert not ignored("incoming/a.manifest")
    assert not ignored("dvc.lock")
    assert not ignored("fingerprints.yaml")


def test_dvc_accepts_the_chain_of_a_new_workspace(made: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=made,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ingest@phantom-tiny-a" in done.stdout.split()


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thing").touch()
    with pytest.raises(UsageError, match="not empty"):
        create_workspace(tmp_path, "tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


def test_an_unknown_preset_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="expected one of base, cpu64, demo"):
        create_workspace(tmp_path / "ws", "huge")
    assert not (tmp_path / "ws").exists()


def test_the_root_is_found_from_below(made: Path, tmp_path: Path) -> None:
    assert find_root(made / "centers") == made
    with pytest.raises(WorkspaceError, match="fetalflex init"):
        find_root(tmp_path)


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="git init"):
        check_ready(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with pytest.raises(WorkspaceError, match="dvc init"):
        check_ready(tmp_path)


def test_too_little_space_is_said_before_work_begins(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(workspace.shutil, "disk_usage", lambda _: usage(10, 10, 5 * 2**20))
    with pytest.raises(WorkspaceError, match="only 5 MiB are free"):
        check_ready(made)


def test_a_center_is_added_and_the_rest_of_params_is_kept(made: Path) -> None:
    before = (made / "params.yaml").read_text()
    add_center(made, "new", {"title": "New", "role": "test_only", "licence": "none"}, "test_only")
    assert load_params(made).ingest.centers["new"] == "test_only"
    assert before.splitlines()[0] in (made / "params.yaml").read_text()
    assert yaml.safe_load((made / "centers/new.yaml").read_text())["title"] == "New"
    write_preset(made, "tiny")
    assert (made / "params.yaml").read_text() == before
