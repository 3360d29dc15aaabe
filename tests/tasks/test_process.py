"""Processes die with their caller, and locks with their process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fetalflex.errors import WorkspaceError
from tasks.process import _lives, exclusive

STAGE = (
    "import time, os; from tasks.process import watch_caller; watch_caller(0.05)\n"
    "print(os.getpid(), flush=True); time.sleep(60)"
)


def _gone(pid: int, limit_s: float = 10.0) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("shell", ["exec", "child"])
def test_stage_dies_when_its_caller_is_killed(shell: str, tmp_path: Path) -> None:
    # `child`: a shell stays between the caller and the stage, and lives on when the caller is killed.
    command = f"{sys.executable} -c '{STAGE}'" + (" ; true" if shell == "child" else "")
    caller = f"import subprocess; subprocess.run(['/bin/sh', '-c', {command!r}])"
    env = os.environ | {"DVC_STAGE": "x", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", caller], stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(process.pid, signal.SIGKILL)
    assert _gone(pid)


def test_a_caller_that_ends_between_two_looks_at_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(self: psutil.Process) -> str:
        raise psutil.NoSuchProcess(self.pid)

    here = psutil.Process()
    assert _lives(here)
    monkeypatch.setattr(psutil.Process, "status", ended)
    assert not _lives(here)


def test_a_second_holder_is_refused_with_the_message(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock", "first"):
        code = (
            "import sys; from pathlib import Path; from tasks.process import exclusive\n"
            "from fetalflex.errors import WorkspaceError\n"
            f"try:\n  with exclusive(Path({str(tmp_path / 'lock')!r}), 'another run is at work'): pass\n"
            "except WorkspaceError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "another run is at work"


def test_a_lock_is_free_again_after_its_holder_was_killed(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from tasks.process import exclusive\n"
        f"with exclusive(Path({str(tmp_path / 'lock')!r}), 'm'): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(WorkspaceError, match="busy"), exclusive(tmp_path / "lock", "busy"):
            pass
        holder.kill()
    with exclusive(tmp_path / "lock", "busy"):
        assert (tmp_path / "lock").is_file()
