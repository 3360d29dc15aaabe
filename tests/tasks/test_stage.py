"""Around a stage: what survives, what is published, how errors are told."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetalflex.artifacts import writing_folder
from fetalflex.errors import WorkspaceError
from fetalflex.params import preset_text
from tasks import stage as harness
from tasks.stage import StageRun, open_stage, stage_definition
from tasks.workspace import load_params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(preset_text("tiny"))
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    for name in ("quality.json", "scores.parquet", "downstream.json"):
        (tmp_path / "reports").mkdir(exist_ok=True)
        (tmp_path / "reports" / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(root: Path) -> StageRun:
    return StageRun("gate", root, root / "work", load_params(root), "key", (), ("reports/gate.json",))


def test_a_chunk_exists_only_when_it_is_whole(workspace: Path) -> None:
    run = _run(workspace)

    def cut_off(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        run.once("one", cut_off)
    assert not run.chunk("one").exists()
    with run.writing_chunk("one") as folder:
        assert not list(folder.iterdir()), "a half chunk of an earlier try is not taken over"
        (folder / "whole").write_text("x")
    assert (run.chunk("one") / "whole").is_file()


def test_a_finished_chunk_is_not_made_again(workspace: Path) -> None:
    run, made = _run(workspace), []
    for _ in range(2):
        run.once("one", lambda folder: made.append(folder))
    assert len(made) == 1


def test_publishing_something_undeclared_is_refused(workspace: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"dvc.yaml declares"):
        _run(workspace).publish({"reports/other.json": workspace / "params.yaml"})


def test_a_published_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for name in ("old", "new"):
        with writing_folder(target) as partial:
            (partial / name).write_text(name)
    assert [p.name for p in target.iterdir()] == ["new"]


def test_the_work_folder_depends_on_inputs_and_parameters(workspace: Path) -> None:
    with open_stage("gate") as first:
        (first.work / "kept").touch()
    with open_stage("gate") as again:
        assert again.work == first.work
        assert (again.work / "kept").is_file()
    (workspace / "reports/quality.json").write_text('{"changed": 1}')
    with open_stage("gate") as other:
        assert other.work != first.work
    assert not first.work.exists(), "results of other inputs are of no use"


def test_two_of_one_stage_cannot_work_at_once(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = harness.exclusive
    monkeypatch.setattr(harness, "exclusive", lambda path, message, wait_s=0.0: real(path, message))
    with open_stage("gate"), pytest.raises(WorkspaceError, match="already at work"), open_stage("gate"):
        pass


def test_a_missing_input_is_named(workspace: Path) -> None:
    (workspace / "reports/quality.json").unlink()
    with pytest.raises(WorkspaceError, match=r"input reports/quality.json is missing"), open_stage("gate"):
        pass


def test_the_definition_of_one_center_has_its_own_paths(workspace: Path) -> None:
    found = stage_definition(workspace, "ingest", "phantom-tiny-a")
    assert found["deps"] == ["incoming/phantom-tiny-a.manifest", "centers/phantom-tiny-a.yaml"]
    assert found["outs"] == ["data/frames/phantom-tiny-a"]
    with pytest.raises(WorkspaceError, match=r"not in ingest.centers"):
        stage_definition(workspace, "ingest", "elsewhere")


@pytest.mark.parametrize(
    ("raised", "said", "code"),
    [
        ("from fetalflex.errors import SourceError; raise SourceError('no files')", "gate: no files", 1),
        ("from fetalflex.errors import ParameterError; raise ParameterError('bad key')", "gate: bad key", 2),
        ("import errno; raise OSError(errno.ENOSPC, 'full')", "no space is left on the disk", 1),
    ],
)
def test_an_expected_error_is_one_line_and_left_for_the_walk(
    workspace: Path, raised: str, said: str, code: int
) -> None:
    program = f"from tasks import stage\ndef flow(compute):\n    {raised}\nstage.run_stage('gate', flow)\n"
    # The address of a server that is never asked: the error comes before any flow.
    env = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
    assert said in json.loads((workspace / ".work/gate.error.json").read_text())["message"] or said.startswith("gate")


_FILL = """
from tasks import stage
def flow(compute):
    with stage.open_stage("gate") as run:
        run.once("one", lambda folder: (folder / "x").write_bytes(b"1" * 1000))
        run.once("two", lambda folder: (folder / "x").write_bytes(b"2" * 3_000_000))
        run.publish({"reports/gate.json": run.chunk("two") / "x"})
stage.run_stage("gate", flow)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, with a workspace on it and 2 MiB left."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        (place / "reports").mkdir()
        (place / "params.yaml").write_text(preset_text("tiny"))
        (place / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
        for name in ("quality.json", "scores.parquet", "downstream.json"):
            (place / "reports" / name).write_text("{}")
        (place / "ballast").write_bytes(bytes(6 * 2**20))
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)


def test_a_full_disk_is_one_line_leaves_no_half_file_and_goes_on_when_there_is_space(small_disk: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-c", _FILL]
    done = subprocess.run(command, cwd=small_disk, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "no space is left on the disk" in line
    (one,) = small_disk.glob(".work/gate/*/chunks/one")
    made = one.stat().st_ino
    assert [p.name for p in one.parent.iterdir() if not p.name.startswith(".")] == ["one"]
    assert not (small_disk / "reports/gate.json").exists()
    (small_disk / "ballast").unlink()
    done = subprocess.run(command, cwd=small_disk, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert one.stat().st_ino == made, "the finished chunk is used again"
    assert (small_disk / "reports/gate.json").stat().st_size == 3_000_000
