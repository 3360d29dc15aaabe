"""A clone and a workspace with the whole tiny chain run in them, once, for all tests that need a real one."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.server import Server, prefect_environment
from tests.flows.chain import ROOT, cli, commit, environment, isolated, run


@pytest.fixture(scope="session")
def served(standing: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a command's environment needs to use the tests' Prefect server instead of starting its own."""
    return prefect_environment(tmp_path_factory.mktemp("client")) | {"PREFECT_API_URL": standing.url}


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone, choose the preset tiny, and `make run` with the environment that is already set up.

    Tests leave it as they found it: everything up to date.
    """
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
    cli(place, "params", "--preset", "tiny", env=environment(place))
    done = subprocess.run(
        ["make", "--old-file=pyproject.toml", "--old-file=constraints.txt", "--assume-old=.venv/.ready", "run"],
        cwd=place, env=environment(place), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@dataclass(frozen=True)
class Workspace:
    """A dataset's own workspace, run once, and what its processes tried to reach beyond this machine."""

    root: Path
    first_run: dict[str, Any]
    reached: list[str]


def _accept_some(root: Path) -> None:
    """Let the gate accept some images of a preset that shows nothing, and not all: releases need both kinds."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    some = {
        "metric": "nearest_distance",
        "at_most": 0.0058,
        "reason": "for the tests: most images keep it, some do not",
    }
    params["gate"]["image"] = [some if c["metric"] == "dice" else c for c in params["gate"]["image"]]
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """`fetalflex init` with the preset tiny, committed, and `fetalflex run` without any network but loopback."""
    place = tmp_path_factory.mktemp("workspace")
    root, record = place / "ws", place / "connections"
    record.touch()
    cli(place, "init", str(root), "--preset", "tiny")
    _accept_some(root)
    commit(root, "A new dataset")
    env = environment(FETALFLEX_TEST_CONNECTIONS=str(record))
    env["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent / "guard")
    result = run(root, env=env, prefix=isolated())
    commit(root, "First run")
    return Workspace(root, result, record.read_text().splitlines())
