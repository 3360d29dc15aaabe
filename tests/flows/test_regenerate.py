"""A scheduled run on a real repository: refused, it publishes nothing; released, everything appears together."""

import shutil
from pathlib import Path

import pytest

from tasks import versioning
from tests.flows.chain import cli, commit, dvc, git
from tests.flows.conftest import Workspace

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def dataset(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace, whose origin is a bare repository and whose data lie in a remote."""
    place = tmp_path_factory.mktemp("regenerate")
    root = place / "ws"
    shutil.copytree(workspace.root, root, ignore=shutil.ignore_patterns("tmp"))
    dvc(root, "remote", "add", "--force", "-d", "storage", str(place / "remote"))
    commit(root, "A remote")
    dvc(root, "push", "-q")
    git(place, "clone", "-q", "--bare", str(root), "origin.git")
    git(root, "remote", "add", "origin", str(place / "origin.git"))
    return root


def _published(root: Path) -> list[str]:
    return git(root, "ls-remote", "origin").splitlines()


def test_a_refused_run_publishes_nothing_and_a_marked_one_everything(dataset: Path) -> None:
    before = _published(dataset)
    said = cli(dataset, "regenerate", "v1", code=1)
    assert "refused: the gate rejects this release: dice" in said
    assert _published(dataset) == before
    assert not (dataset / ".work" / "regenerate").exists()
    assert list((dataset / ".fetalflex" / "runs").glob("*.html")), "its report is kept"

    assert "released: 0 of 14 images accepted" in cli(dataset, "regenerate", "v1", "--allow-failing-gate")
    refs = {line.split("\t")[1] for line in _published(dataset)}
    assert "refs/tags/v1" in refs
    assert [r for r in refs if r.startswith("refs/heads/regenerate/")]
    assert len(refs) == len(before) + 3, "a branch, a tag and the commit that it names"
    git(dataset, "fetch", "-q", "--tags", "origin")
    assert versioning.graph(dataset), "the workspace itself is as it was"
    assert git(dataset, "status", "--porcelain") == ""
