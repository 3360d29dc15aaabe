"""A real release of the tiny chain: refused, made, proven, damaged, cut off; nothing is visible before its tag."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetalflex.errors import UsageError, WorkspaceError
from tasks import repository, tracking
from tasks.releasing.compare import backfill, diff_releases
from tasks.releasing.make import Released, make_release
from tasks.releasing.verify import verify_release
from tasks.releasing.withdraw import check_withdrawal, effects, remove_center, remove_objects
from tests.flows.chain import cli, commit, dvc, environment, git, wait_for
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


def test_a_fresh_clone_proves_it_byte_for_byte(dataset: Path, released: Released, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(dataset), str(clone))
    found = json.loads(cli(clone, "verify", "v1", "--images", "3", "--json"))
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


def test_a_release_killed_while_it_pushes_shows_nothing_and_is_made_again(dataset: Path, released: Released) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "release", "v3", "--allow-failing-gate"],
        cwd=dataset, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        assert wait_for(lambda: (dataset / ".work/release/tree/release/manifest.json").is_file(), 300)
        time.sleep(1)  # well into commit, push and proof
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    assert repository.tags(dataset) == ["v1"]
    made = make_release(dataset, "v3", allow_failing=True)
    assert repository.tags(dataset) == ["v1", "v3"]
    assert made.version == released.version
    assert not (dataset / ".work" / "release").exists()


def test_older_releases_are_compared_and_judged_anew(dataset: Path, released: Released) -> None:
    found, page = diff_releases(dataset, "v1", "v1")
    assert {f.verdict for f in found.figures} <= {"same", "not comparable"}
    assert not found.params
    assert page.read_text().count("data:image/png;base64,") == 2
    (judged,) = backfill(dataset, ["v1"])
    assert (judged.then, judged.now, judged.accepted_now, judged.total) == (False, False, 0, released.images)
    assert judged.missed == ("dice >= 0.5",)


def test_a_withdrawn_center_takes_its_releases_and_their_objects_with_it(dataset: Path, released: Released) -> None:
    center = "phantom-tiny-b"
    found = effects(dataset, center)
    assert all(e.trained_on for e in found)
    assert 0 < found[0].in_its_style < released.images
    md5 = hashlib.md5((dataset / "data/frames" / center / "frames-00.parquet").read_bytes()).hexdigest()
    places = [p / "files/md5" / md5[:2] / md5[2:] for p in (dataset / ".dvc/cache", dataset.parent / "remote")]
    assert all(p.is_file() for p in places)
    remove_center(dataset, center, found)
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
    with pytest.raises(UsageError, match="is the only one that trains"):
        check_withdrawal(dataset, "phantom-tiny-a")
