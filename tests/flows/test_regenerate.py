"""A scheduled run on a real repository: refused, it publishes nothing; released, everything appears together."""

import re
import shutil
from pathlib import Path

import pytest

from flows.regenerate import regenerate
from tasks import versioning
from tasks.server import Server, prefect_settings
from tests.flows.chain import ROOT, cli, commit, dvc, environment, git
from tests.flows.conftest import Workspace

pytestmark = [
    pytest.mark.chain,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    # MLflow's own, in this process.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


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


def test_a_refused_run_publishes_nothing_and_a_marked_one_everything(
    dataset: Path, standing: Server, served: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _published(dataset)
    said = cli(dataset, "regenerate", "v1", code=1, env=environment(**served))
    assert "refused: the gate rejects this release: dice" in said
    assert _published(dataset) == before
    assert not (dataset / ".work" / "regenerate").exists()
    assert list((dataset / ".fetalflex" / "runs").glob("*.html")), "its report is kept"

    monkeypatch.chdir(dataset)
    for name, value in (served | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    with prefect_settings(standing):
        state = regenerate("v1", allow_failing_gate=True, return_state=True)
    found = re.fullmatch(r"released: (\d+) of 14 images accepted", state.message or "")
    assert found is not None, state.message
    assert 0 < int(found.group(1)) < 14
    refs = {line.split("\t")[1] for line in _published(dataset)}
    assert "refs/tags/v1" in refs
    assert [r for r in refs if r.startswith("refs/heads/regenerate/")]
    assert len(refs) == len(before) + 3, "a branch, a tag and the commit that it names"
    git(dataset, "fetch", "-q", "--tags", "origin")
    assert versioning.graph(dataset), "the workspace itself is as it was"
    assert git(dataset, "status", "--porcelain") == ""
