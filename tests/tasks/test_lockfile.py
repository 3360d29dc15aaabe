"""What a dvc leaves that was killed while it wrote its lock, and a whole one that must stay as it is."""

import json
from pathlib import Path

import pytest
import yaml

from fetalflex.errors import WorkspaceError
from tasks import versioning
from tasks.lockfile import keep_lock, mend_lock
from tests.tasks.toy import make_toy

BEFORE = {name: {"cmd": f"make {name}", "outs": [{"path": name, "md5": "0" * 32}]} for name in ("a", "b", "c")}


def _text(stages: dict[str, object]) -> str:
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A workspace's folder in which the whole lock was kept."""
    (tmp_path / "dvc.lock").write_text(_text(BEFORE))
    keep_lock(tmp_path)
    return tmp_path


@pytest.mark.parametrize("length", [0, 1, 30, 100, 150, -40, -1])
def test_a_lock_cut_off_anywhere_comes_back(kept: Path, length: int) -> None:
    """Also where the stage at work has a new entry already."""
    for whole in (_text(BEFORE), _text(BEFORE | {"b": {"cmd": "make b", "outs": [{"path": "b", "md5": "1" * 32}]}})):
        (kept / "dvc.lock").write_text(whole[:length])
        mend_lock(kept)
        assert (kept / "dvc.lock").read_text() == _text(BEFORE)


def test_a_lock_that_lost_whole_stages_comes_back(kept: Path) -> None:
    (kept / "dvc.lock").write_text(_text({"a": BEFORE["a"]}))
    mend_lock(kept)
    assert (kept / "dvc.lock").read_text() == _text(BEFORE)


@pytest.mark.parametrize(
    "stages",
    [
        BEFORE | {"b": {"cmd": "new"}},
        BEFORE | {"d": {"cmd": "new"}},
        {"a": BEFORE["a"], "c": BEFORE["c"]},  # a center has left
        {"a": {"cmd": "other"}, "b": {"cmd": "other"}},  # another branch
    ],
)
def test_a_whole_lock_stays_and_is_kept(kept: Path, stages: dict[str, object]) -> None:
    (kept / "dvc.lock").write_text(_text(stages))
    mend_lock(kept)
    assert (kept / "dvc.lock").read_text() == _text(stages)
    assert (kept / ".fetalflex" / "dvc.lock").read_text() == _text(stages)


def test_half_a_lock_without_a_copy_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").touch()
    with pytest.raises(WorkspaceError, match=r"'git checkout dvc\.lock'"):
        mend_lock(tmp_path)


def test_half_a_list_of_what_is_in_use_is_removed_and_a_whole_one_stays(tmp_path: Path) -> None:
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    path.write_text('{"write": {"/')
    mend_lock(tmp_path)
    assert not path.exists()
    path.write_text(json.dumps({"read": {}}))
    mend_lock(tmp_path)
    assert path.exists()


def test_dvc_goes_on_from_a_mended_lock(tmp_path: Path) -> None:
    """DVC itself refuses half a file, or takes its missing stages for ones that never ran."""
    toy = make_toy(tmp_path)
    for stage in ("ingest@a", "ingest@b", "masks"):
        versioning.repro(toy, stage)
    keep_lock(toy)
    (toy / "dvc.lock").write_text("")
    (toy / ".dvc" / "tmp" / "rwlock").write_text("")
    with pytest.raises(WorkspaceError):
        versioning.status(toy)
    mend_lock(toy)
    assert set(versioning.status(toy)) == {"gate"}
