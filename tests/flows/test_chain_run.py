"""`make run` itself, in a temporary clone at the smallest size; then a second run, a change, kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]
# In CI three stages are killed; FETALFLEX_ALL_KILLS=1 kills the run and dvc alone in each stage that works on chunks.
STAGES = ["ingest@phantom-tiny-b", "masks", "prealign", "train", "sample", "score", "evaluate"]
KILLS = (
    [(stage, whom) for stage in STAGES for whom in ("run", "dvc")]
    if os.environ.get("FETALFLEX_ALL_KILLS")
    else [("masks", "run"), ("train", "dvc"), ("sample", "run")]
)


def _environment(clone: Path) -> dict[str, str]:
    """The clone's own code must run, whatever is installed; and no test may inherit a server or a key."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "FETALFLEX"))}
    return env | {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}


def _cli(clone: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=clone, env=_environment(clone), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone, choose the preset tiny, and `make run` with the environment that is already set up."""
    place = tmp_path_factory.mktemp("clone") / "fetalflex"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True, capture_output=True)
    # What is not committed yet is under test, too.
    changed = subprocess.run(
        ["git", "ls-files", "-mo", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in changed.stdout.split():
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    (place / ".venv").symlink_to(Path(sys.executable).parents[1])
    _cli(place, "params", "--preset", "tiny")
    done = subprocess.run(
        ["make", "--old-file=pyproject.toml", "--old-file=constraints.txt", "--assume-old=.venv/.ready", "run"],
        cwd=place, env=_environment(place), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def _hashes(clone: Path) -> dict[str, Any]:
    lock = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    return {o["path"]: o["md5"] for entry in lock.values() for o in entry["outs"]}


def test_every_stage_leaves_its_outputs_and_the_page_is_whole(clone: Path) -> None:
    for path in ("data/frames/phantom-tiny-a", "data/masks", "models/generator", "data/synthetic", "reports/gate.json"):
        assert (clone / path).exists(), path
    page = (clone / "reports/index.html").read_text()
    for part in ("phantom-tiny-a", "Counterfactual pairs", "The gate"):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_second_run_changes_nothing_and_everything_is_cached(clone: Path) -> None:
    before = _hashes(clone)
    result = json.loads(_cli(clone, "run", "--json"))
    assert result["ok"]
    assert {s["state"] for s in result["stages"]} == {"Cached"}
    assert _hashes(clone) == before
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], cwd=clone, capture_output=True, text=True, check=True
    )
    assert json.loads(status.stdout) == {}


def test_git_sees_no_output(clone: Path) -> None:
    done = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=clone, capture_output=True, text=True, check=True
    )
    seen = {line[3:].split("/")[0] for line in done.stdout.splitlines()}
    assert not seen & {"data", "models", "reports", "incoming", "dvc.lock", "fingerprints.yaml", ".work", ".fetalflex"}


def test_no_identifier_of_the_raw_files_is_in_any_output(clone: Path) -> None:
    from pydicom import dcmread

    planted = set()
    for path in sorted((clone / "incoming/phantom-tiny-a").rglob("*"))[:10]:
        if path.is_file():
            data = dcmread(path, stop_before_pixels=True)
            planted |= {str(data.PatientName).encode(), str(data.PatientID).encode(), data.SOPInstanceUID.encode()}
    outputs = [p for f in ("data", "models", "reports") for p in (clone / f).rglob("*") if p.is_file()]
    assert len(outputs) > 20
    for path in outputs:
        content = path.read_bytes()
        assert not [p for p in planted if p in content], path


def test_status_names_the_changed_center_and_writes_nothing(clone: Path) -> None:
    victim = next(p for p in sorted((clone / "incoming/phantom-tiny-b").rglob("*")) if p.is_file())
    content = victim.read_bytes()
    before = {p: p.stat().st_mtime_ns for p in clone.glob("*") if p.is_file()}
    victim.write_bytes(content + b"\0\0")
    try:
        found = json.loads(_cli(clone, "status", "--json"))
    finally:
        victim.write_bytes(content)
    assert not found["clean"]
    assert found["stages"]["ingest@phantom-tiny-b"] == ["raw files of phantom-tiny-b changed"]
    assert found["stages"]["ingest@phantom-tiny-a"] == []
    assert "follows from ingest@phantom-tiny-b" in found["stages"]["masks"][0]
    assert {p: p.stat().st_mtime_ns for p in clone.glob("*") if p.is_file()} == before


def test_mlflow_holds_runs_curves_and_the_generator(clone: Path) -> None:
    import sqlite3

    with sqlite3.connect(clone / ".fetalflex" / "mlflow.db") as database:
        runs = dict(
            database.execute("select t.value, r.status from tags t join runs r using (run_uuid) where t.key='stage'")
        )
        steps = database.execute("select count(*) from metrics where key='loss'").fetchone()[0]
        versions = database.execute("select count(*) from model_versions").fetchone()[0]
        inputs = database.execute("select count(*) from inputs").fetchone()[0]
    database.close()
    assert {"pipeline", "prealign", "train", "score", "evaluate"} <= set(runs)
    assert set(runs.values()) == {"FINISHED"}
    assert steps >= 16
    assert versions == 1
    assert inputs >= 2


def _at_work(clone: Path, stage: str) -> Callable[[], bool]:
    """A stage is at work when its folder holds a finished chunk or a checkpoint."""

    def check() -> bool:
        return any((clone / ".work" / stage).glob("*/chunks/*")) or any((clone / ".work" / stage).glob("*/state*/*"))

    return check


def _wait(condition: Callable[[], bool], limit_s: float = 120.0) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _forget(clone: Path, stage: str) -> None:
    """Remove a stage's outputs from the workspace and from DVC's cache, which would bring them back without a run."""
    for out in yaml.safe_load((clone / "dvc.lock").read_text())["stages"][stage]["outs"]:
        path = clone / out["path"]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        (clone / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink()
    shutil.rmtree(clone / ".dvc/cache/runs")


@pytest.mark.parametrize(("stage", "whom"), KILLS)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(clone: Path, stage: str, whom: str) -> None:
    before = _hashes(clone)
    _forget(clone, stage)
    command = [sys.executable, "-m", "flows.cli", "run"]
    with subprocess.Popen(
        command, cwd=clone, env=_environment(clone), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        assert _wait(_at_work(clone, stage)), "the stage did not begin"
        family = _family(psutil.Process(process.pid))
        names = [(p, " ".join(p.cmdline())) for p in family if p.is_running()]
        if whom == "run":
            os.kill(process.pid, signal.SIGKILL)
            mortal = [p for p, _ in names]
        else:
            dvc = next(p for p, line in names if "dvc repro" in line)
            mortal = _family(dvc)
            dvc.kill()
        process.wait(60)
        dead = lambda p: not p.is_running() or p.status() == psutil.STATUS_ZOMBIE  # noqa: E731
        assert _wait(lambda: all(dead(p) for p in mortal), 15), [p for p in mortal if not dead(p)]
    result = json.loads(_cli(clone, "run", "--json"))
    assert result["ok"]
    assert _hashes(clone) == before
    assert not list((clone / ".work" / stage).glob("*/")), "the work folder is cleaned once dvc.lock shows the outputs"


def test_sampling_never_opens_the_judge(clone: Path) -> None:
    shutil.move(clone / "models/judge", clone / "hidden-judge")
    shutil.rmtree(clone / "data/synthetic")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "flows.sample"],
            cwd=clone,
            env=_environment(clone),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    finally:
        shutil.move(clone / "hidden-judge", clone / "models/judge")
    result = json.loads(_cli(clone, "run", "--json"))
    assert {s["state"] for s in result["stages"]} == {"Cached"}, "the same bytes without the judge"


def test_a_second_run_beside_the_first_is_refused_in_one_line(clone: Path) -> None:
    from tasks.process import exclusive

    with exclusive(clone / ".fetalflex" / "run.lock", "held"):
        said = _cli(clone, "run", code=1)
    assert said.strip().splitlines() == [
        "fetalflex: error: another run is at work in this workspace: wait for it to end, or stop it"
    ]
