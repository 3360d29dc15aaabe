"""Where a scheduled run works and how it publishes: branches of its own, both refs or neither, resumed after a kill."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fetalflex.artifacts import write_json
from fetalflex.errors import WorkspaceError
from tasks import repository
from tasks.releasing.scheduled import ScheduledRun, _branch, _unfinished, next_tag, publish


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a bare repository with one commit."""
    bare, tree = tmp_path / "origin.git", tmp_path / "tree"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    repository.git(tmp_path, "clone", "-q", str(bare), str(tree))
    (tree / "params.yaml").write_text("a: 1\n")
    repository.commit_all(tree, "First")
    repository.git(tree, "push", "-q", "origin", "HEAD")
    return tree


def _refs(tree: Path) -> list[str]:
    return [line.split("\t")[1] for line in repository.git(tree, "ls-remote", "origin").splitlines()]


def test_every_run_has_a_branch_of_its_own_whatever_the_clock_says(clone: Path) -> None:
    names = []
    for _ in range(3):
        names.append(_branch(clone))
        repository.git(clone, "branch", names[-1])
    day = f"regenerate/{datetime.now(UTC):%Y-%m-%d}"
    assert names == [f"{day}-1", f"{day}-2", f"{day}-3"]


def test_a_second_release_of_a_month_has_another_name(clone: Path) -> None:
    month = datetime.now(UTC).strftime("v%Y.%m")
    origin = repository.git(clone, "remote", "get-url", "origin").strip()
    assert next_tag(clone, origin) == month
    repository.set_tag(clone, month, "HEAD", "x")
    repository.git(clone, "push", "-q", "origin", month)
    assert next_tag(clone, origin) == f"{month}.2"


def test_branch_and_tag_are_published_both_or_neither(clone: Path) -> None:
    origin = repository.git(clone, "remote", "get-url", "origin").strip()
    repository.git(clone, "checkout", "-q", "-b", "regenerate/x-1")
    run = ScheduledRun(origin, repository.head(clone), "regenerate/x-1")
    before = _refs(clone)
    with pytest.raises(WorkspaceError, match="git push failed"):
        publish(clone, run, "v1")  # the tag does not exist
    assert _refs(clone) == before
    repository.set_tag(clone, "v1", "HEAD", "x")
    publish(clone, run, "v1")
    assert {"refs/heads/regenerate/x-1", "refs/tags/v1"} <= set(_refs(clone))


def test_a_run_that_was_cut_off_goes_on_only_at_the_same_commit(clone: Path, tmp_path: Path) -> None:
    note = tmp_path / "run.json"
    assert _unfinished(clone, note, "o", "c") is None
    write_json(note, {"origin": "o", "base": "c", "branch": "b", "resumed": False})
    found = _unfinished(clone, note, "o", "c")
    assert found == ScheduledRun("o", "c", "b", resumed=True)
    assert _unfinished(clone, note, "o", "later commit") is None
