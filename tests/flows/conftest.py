"""One clone with the whole tiny chain run in it by `make run`, for all tests that need a real one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.chain import ROOT, cli, environment


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
