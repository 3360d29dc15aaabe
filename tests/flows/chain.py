"""What tests of the real chain share: commands in a clone or workspace, what DVC recorded, waiting, processes."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from fetalflex.release.chain import dvc_md5

ROOT = Path(__file__).parents[2]


def environment(code: Path = ROOT, **more: str) -> dict[str, str]:
    """The code under test must run, whatever is installed; and no test may inherit a server or a key."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "FETALFLEX"))}
    return env | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"} | more


def remake(root: Path, stage: str, env: dict[str, str], code: int = 0) -> str:
    """Remove a stage's outputs and run its process alone; return what it says on standard error.

    Work of an earlier run is gone already, so everything is made again. DVC's cache keeps its own copy.
    """
    for out in _outs(root, stage):
        path = root / out["path"]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = subprocess.run(
        [sys.executable, "-m", f"flows.{stage}"], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def differing(root: Path, stage: str) -> list[str]:
    """Return a stage's outputs whose bytes are not those that dvc.lock names."""
    return [out["path"] for out in _outs(root, stage) if dvc_md5(root / out["path"]) != out["md5"]]


def _outs(root: Path, stage: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((root / "dvc.lock").read_text())["stages"][stage]["outs"]
    return found


def cli(folder: Path, *arguments: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """Run the command line; return what it says: on standard output where `code` is 0, else on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder, env=env or environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout if code == 0 else done.stderr


def run(
    folder: Path, *, code: int = 0, env: dict[str, str] | None = None, prefix: Sequence[str] = ()
) -> dict[str, Any]:
    """Run `fetalflex run --json` (behind the command `prefix`) and return its object."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "flows.cli", "run", "--json"],
        cwd=folder, env=env or environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(result: dict[str, Any]) -> dict[str, str]:
    """Return stage -> state of what `run` returned."""
    return {stage["name"]: stage["state"] for stage in result["stages"]}


def dvc(folder: Path, *arguments: str) -> str:
    """Run dvc, whose stages find the code under test, and return what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder, env=environment(PATH=path, DVC_NO_ANALYTICS="1"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    """Run git and return what it prints."""
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def commit(folder: Path, message: str) -> None:
    """Commit everything that git sees."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)


def isolated() -> list[str]:
    """Return a command's prefix that gives it a network namespace with loopback alone; empty where that is refused."""
    prefix = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return [] if done.returncode else prefix


def hashes(folder: Path) -> dict[str, str]:
    """Return output path -> hash, as dvc.lock has them."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {o["path"]: o["md5"] for entry in lock.values() for o in entry["outs"]}


def forget(folder: Path, stage: str) -> None:
    """Remove a stage's outputs from the workspace and from DVC's cache, which would bring them back without a run."""
    for out in _outs(folder, stage):
        path = folder / out["path"]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        (folder / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]).unlink()
    runs = folder / ".dvc/cache/runs"
    if runs.is_dir():  # gone already where a second stage is forgotten
        shutil.rmtree(runs)


def wait_for(condition: Callable[[], bool], limit_s: float = 120.0) -> bool:
    """Return whether the condition came true within the limit."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that descend from it."""
    return [process, *process.children(recursive=True)]


def is_dead(process: psutil.Process) -> bool:
    """Return whether a process has ended (a zombie has, too)."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
