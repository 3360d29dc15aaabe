"""A real release of the tiny chain: refused, made, proven, damaged, cut off; nothing is visible before its tag."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fetalflex.errors import UsageError, WorkspaceError
from flows.cli import app
from tasks import repository, tracking, versioning
from tasks.releasing.compare import backfill, diff_releases
from tasks.releasing.make import Released, make_release
from tasks.releasing.verify import verify_release
from tasks.releasing.withdraw import check_withdrawal, effects, remove_center, remove_objects
from tests.flows.chain import cli, commit, dvc, environment, git, run, states, wait_for
from tests.flows.conftest import Workspace

pytestmark = [
    pytest.mark.chain,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    # MLflow's own use of SQLAlchemy and of its file formats, in this process.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def dataset(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace with a remote, committed."""
    place = tmp_path_factory.mktemp("release")
    root = place / "ws"
    shutil.copytree(workspace.root, root, ignore=shutil.ignore_patterns("tmp"))
    dvc(root, "remote", "add", "--force", "-d", "storage", str(place / "remote"))
    commit(root, "A remote")
    return root


@pytest.fixture(scope="module")
def released(dataset: Path) -> Released:
    """The release v1; the tiny preset's images show nothing, so its gate rejects."""
    return make_release(dataset, "v1", allow_failing=True)


@pytest.fixture(scope="module")
def passing(dataset: Path, released: Released, served: dict[str, str]) -> str:
    """The next commit: a gate that asks for less, decided by a run, in which all else is cached."""
    values = yaml.safe_load((dataset / "params.yaml").read_text())
    values["gate"]["release"] = [c for c in values["gate"]["release"] if c["metric"] != "dice"]
    (dataset / "params.yaml").write_text(yaml.safe_dump(values))
    found = run(dataset, env=environment(**served))
    assert {name for name, state in states(found).items() if state != "Cached"} == {"gate"}
    commit(dataset, "A gate that asks for less")
    return git(dataset, "rev-parse", "HEAD").strip()


def test_a_rejecting_gate_refuses_and_nothing_is_visible(dataset: Path) -> None:
    said = cli(dataset, "release", "v0", code=2)
    assert "the gate rejects this release: dice: must be >= 0.5" in said
    assert repository.tags(dataset) == []
    assert not (dataset.parent / "remote").exists(), "not a byte was pushed"


def test_uncommitted_work_and_a_missing_remote_are_said(dataset: Path, tmp_path: Path) -> None:
    (dataset / "note.txt").write_text("x")
    try:
        with pytest.raises(WorkspaceError, match=r"1 files are not committed \(note\.txt\)"):
            make_release(dataset, "v0", allow_failing=True)
    finally:
        (dataset / "note.txt").unlink()
    with pytest.raises(UsageError, match="by convention"):
        make_release(dataset, "a b", allow_failing=True)


def test_a_release_past_the_gate_is_marked_and_no_champion(dataset: Path, released: Released) -> None:
    assert not released.passed
    assert repository.tags(dataset) == ["v1"]
    assert "The gate rejects it: dice" in repository.tag_message(dataset, "v1")
    assert repository.changed_files(dataset) == [], "the tree that we stand in is as it was"
    assert repository.head(dataset) != released.commit, "the branch does not move"
    client = tracking._client(dataset)
    version = client.get_model_version(tracking.REGISTERED, released.version)
    assert version.tags["release.v1"] == "rejected by the gate"
    assert "champion" not in client.get_registered_model(tracking.REGISTERED).aliases


def test_the_same_command_again_changes_nothing(dataset: Path, released: Released) -> None:
    again = make_release(dataset, "v1", allow_failing=False)
    assert again.completed
    assert (again.commit, again.version) == (released.commit, released.version)


def test_a_fresh_clone_proves_it_byte_for_byte(
    dataset: Path, released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(dataset), str(clone))
    monkeypatch.chdir(clone)
    done = CliRunner().invoke(app, ["verify", "v1", "--images", "3", "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["ok"]
    assert (found["checked"], found["identical"]) == (3, 3)
    assert found["same_kind_of_device"]
    assert found["hashes"]["image"] == released.images
    assert found["not_checked"] == [f"raw files of phantom-tiny-{x}: they are not on this machine" for x in "ab"]


def _flipped(path: Path) -> Iterator[None]:
    content, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    path.chmod(mode)  # DVC believes an object that nobody may write
    try:
        yield
    finally:
        path.chmod(0o644)
        path.write_bytes(content)
        path.chmod(mode)


def test_one_changed_bit_on_the_remote_is_named(dataset: Path, released: Released) -> None:
    remote = dataset.parent / "remote"
    out = dvc(dataset, "get", "-q", ".", "release/files/coco", "--rev", "v1", "-o", str(dataset.parent / "coco"))
    assert out.strip() == ""
    picture = sorted((dataset.parent / "coco" / "images").glob("*.png"))[0]

    md5 = hashlib.md5(picture.read_bytes()).hexdigest()
    for _ in _flipped(remote / "files" / "md5" / md5[:2] / md5[2:]):
        proof = verify_release(dataset, "v1", 0, 0)
        assert proof.findings.differences[0].name == f"release/files/coco/images/{picture.name}"
        named = {d.name.rpartition("/")[2] for d in proof.findings.differences}
        assert named == {picture.name}
        with pytest.raises(WorkspaceError, match="remote holds 1 damaged objects"):
            make_release(dataset, "v2", allow_failing=True)
    assert repository.tags(dataset) == ["v1"]
    assert verify_release(dataset, "v1", 0, 0).ok


def test_a_tag_of_another_state_is_never_changed(dataset: Path, released: Released) -> None:
    commit(dataset, "More")
    try:
        with pytest.raises(UsageError, match="a release is never changed"):
            make_release(dataset, "v1", allow_failing=True)
    finally:
        git(dataset, "reset", "-q", "--hard", "HEAD~1")


def test_a_release_killed_while_it_pushes_shows_nothing_and_made_again_has_the_champion(
    dataset: Path, released: Released, passing: str
) -> None:
    remote = dataset.parent / "remote"
    before = sum(p.is_file() for p in remote.rglob("*"))
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "release", "v2"],
        cwd=dataset, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        assert wait_for(lambda: sum(p.is_file() for p in remote.rglob("*")) > before, 300)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    assert repository.tags(dataset) == ["v1"]
    client = tracking._client(dataset)
    client.delete_registered_model_alias(tracking.REGISTERED, "champion")  # the run past the gate set it already
    made = make_release(dataset, "v2", allow_failing=False)
    assert repository.tags(dataset) == ["v1", "v2"]
    assert (made.passed, made.version) == (True, released.version)
    assert 0 < made.accepted < made.images
    assert not (dataset / ".work" / "release").exists()
    assert "rejects" not in repository.tag_message(dataset, "v2")
    assert str(client.get_registered_model(tracking.REGISTERED).aliases["champion"]) == made.version
    assert client.get_model_version(tracking.REGISTERED, made.version).tags["release.v2"] == "accepted"
    assert passing == repository.git(dataset, "rev-parse", "v2^").strip()


def test_older_releases_are_compared_and_judged_anew(dataset: Path, released: Released, passing: str) -> None:
    found, page = diff_releases(dataset, "v1", "v2")
    assert {f.verdict for f in found.figures} <= {"same", "not comparable"}
    assert set(found.params) == {"gate.release"}
    assert page.read_text().count("data:image/png;base64,") == 2
    (judged,) = backfill(dataset, ["v1"])
    assert (judged.then, judged.now, judged.missed) == (False, True, ())
    assert judged.accepted_now == judged.accepted_then == released.accepted


def test_a_withdrawn_center_takes_its_releases_and_their_objects_with_it(
    dataset: Path, released: Released, passing: str
) -> None:
    center = "phantom-tiny-b"
    found = effects(dataset, center)
    assert all(e.trained_on for e in found)
    assert 0 < found[0].in_its_style < released.images
    md5 = hashlib.md5((dataset / "data/frames" / center / "frames-00.parquet").read_bytes()).hexdigest()
    places = [p / "files/md5" / md5[:2] / md5[2:] for p in (dataset / ".dvc/cache", dataset.parent / "remote")]
    assert all(p.is_file() for p in places)
    remove_center(dataset, center, found)
    assert f"ingest@{center}" not in versioning.locked(dataset)
    assert "ingest@phantom-tiny-a" in versioning.locked(dataset)
    (dataset / "dvc.lock").unlink()  # stands for the chain without the center: nothing of it is needed any more
    shutil.rmtree(dataset / "models")
    commit(dataset, "Without it")
    assert remove_objects(dataset, found) == [released.version]
    assert not any(p.exists() for p in places)
    assert center not in (dataset / "params.yaml").read_text()
    assert not (dataset / "incoming" / center).exists()
    proof = verify_release(dataset, "v1", 1, 0)
    assert not proof.ok
    assert proof.withdrawn == f"withdrawn: center {center} has left the dataset"
    with pytest.raises(UsageError, match="release v1 cannot be compared: withdrawn"):
        diff_releases(dataset, "v1", "v2")
    with pytest.raises(UsageError, match="is the only one that trains"):
        check_withdrawal(dataset, "phantom-tiny-a")
