"""A dataset's own workspace: what git holds, what code changes do, clones, plain DVC, and that nothing is sent away."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.chain import ROOT, cli, commit, dvc, environment, git, hashes, run, states
from tests.flows.conftest import Workspace

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_the_whole_chain_reaches_nothing_beyond_loopback(workspace: Workspace) -> None:
    assert workspace.first_run["ok"]
    assert set(states(workspace.first_run).values()) == {"Completed"}
    assert workspace.reached == []


def test_the_guard_would_have_seen_a_connection(tmp_path: Path) -> None:
    record = tmp_path / "connections"
    env = environment(Path(__file__).parent / "guard", FETALFLEX_TEST_CONNECTIONS=str(record))
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=False)
    assert done.returncode
    assert "192.0.2.1" in record.read_text()


def test_git_is_clean_after_a_commit_and_holds_what_versions_the_data(workspace: Workspace) -> None:
    assert git(workspace.root, "status", "--porcelain") == ""
    held = set(git(workspace.root, "ls-files").split())
    assert {"dvc.lock", "dvc.yaml", "params.yaml", "fingerprints.yaml", "incoming/phantom-tiny-a.manifest"} <= held
    outputs = {name for name in held if name.startswith(("data/", "models/", "reports/", ".work/", ".fetalflex/"))}
    assert outputs == {"data/test_only/README.md"}  # the note that keeps the folder; data itself is DVC's


def test_a_plain_repro_after_a_run_does_nothing(workspace: Workspace) -> None:
    assert "up to date" in dvc(workspace.root, "repro")
    assert git(workspace.root, "status", "--porcelain") == ""


@pytest.fixture
def other_code(tmp_path: Path) -> Path:
    for name in ("fetalflex", "tasks", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "prefect.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def _edit(code: Path, name: str) -> None:
    with (code / name).open("a") as out:
        out.write("# another line\n")


def test_edited_code_makes_its_own_stage_stale_and_what_follows(workspace: Workspace, other_code: Path) -> None:
    _edit(other_code, "tasks/sample.py")
    found = json.loads(cli(workspace.root, "status", "--json", env=environment(other_code)))["stages"]
    assert {name: reasons for name, reasons in found.items() if reasons} == {
        "sample": ["its code changed"],
        "score": ["follows from sample"],
        "evaluate": ["follows from sample"],
        "gate": ["follows from evaluate, score"],
    }


def test_a_run_with_edited_code_runs_that_stage_alone(
    workspace: Workspace, other_code: Path, served: dict[str, str]
) -> None:
    _edit(other_code, "fetalflex/quality/gate.py")
    before = hashes(workspace.root)
    for code in (other_code, ROOT):
        found = states(run(workspace.root, env=environment(code, **served)))
        assert found.pop("gate") == "Completed"
        assert set(found.values()) == {"Cached"}
    assert hashes(workspace.root) == before
    assert git(workspace.root, "status", "--porcelain") == "", "the former code gives the former dvc.lock"


def test_a_clone_uses_pulled_frames_and_never_ingests(
    workspace: Workspace, served: dict[str, str], tmp_path: Path
) -> None:
    """In the clone raw files are absent, and both ingests are stale: another key, another profile."""
    store, clone = tmp_path / "store", tmp_path / "clone"
    dvc(workspace.root, "remote", "add", "--local", "--default", "store", str(store))
    dvc(workspace.root, "push")
    git(tmp_path, "clone", "-q", str(workspace.root), str(clone))
    dvc(clone, "remote", "add", "--local", "--default", "store", str(store))
    dvc(clone, "pull")
    before = hashes(clone)
    for name in ("phantom-tiny-a", "phantom-tiny-b"):
        (clone / "centers" / f"{name}.yaml").write_text("title: A hospital elsewhere\nlicence: none\n")
    commit(clone, "Centers whose raw files lie elsewhere")
    found = run(clone, env=environment(FETALFLEX_KEY="0123456789abcdef0123456789abcdef", **served))
    assert set(states(found).values()) == {"Cached"}
    said = {s["name"]: s["message"] for s in found["stages"]}
    assert said["ingest@phantom-tiny-a"] == "raw files are absent here: the versioned output is used"
    assert hashes(clone) == before
    assert sorted(p.name for p in (clone / "data/frames").iterdir()) == ["phantom-tiny-a", "phantom-tiny-b"]
    assert not [p for p in (clone / "incoming").iterdir() if p.is_dir()]
