"""Processes that die with their parent, and locks that a dead process cannot leave behind."""

import ctypes
import errno
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from fetalflex.errors import WorkspaceError

_PR_SET_PDEATHSIG = 1
_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ash"}
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux). Usable as `preexec_fn`.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def watch_caller(period_s: float = 0.2) -> None:
    """Kill this process as soon as the program that called it is gone, even with a shell in between.

    DVC starts a stage through a shell. When DVC alone is killed, the shell may live on, so the parent's
    death is not enough: the nearest ancestor that is no shell is watched.
    """
    if "DVC_STAGE" not in os.environ:
        return  # started by hand: the terminal's own signals decide
    die_with_parent()
    try:
        caller = psutil.Process().parent()
        while caller is not None and caller.name().lstrip("-") in _SHELLS:
            caller = caller.parent()
    except psutil.NoSuchProcess:
        caller = None
    if caller is None or caller.pid <= 1:
        os.kill(os.getpid(), signal.SIGKILL)  # the caller died before we looked
        return
    watched = caller

    def watch() -> None:
        while _lives(watched):
            time.sleep(period_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-caller", daemon=True).start()


def _lives(process: psutil.Process) -> bool:
    """Return whether a process is at work still; it may end between any two looks at it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def fix_threads(threads: int) -> None:
    """Make torch use so many threads in the calling thread; without torch nothing is to be done (nor imported).

    Their number changes the last bits of results, so it is never left to the machine or its environment.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


@contextmanager
def exclusive(path: Path, message: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel drops it when the process ends, however it ends.

    Raises: WorkspaceError with `message` when another process holds it for longer than `wait_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() > deadline:
                    raise WorkspaceError(message) from error
                time.sleep(0.1)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
