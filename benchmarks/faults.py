"""What breaks around a run, for real: a full disk, lost servers, a jumping clock, two runs at once; then a run again.

In a finished workspace of the preset `tiny` (made by `fetalflex init DIR --preset tiny` and `fetalflex run`):

    python -m benchmarks.faults DIR [--faults disk prefect ...] [--faketime libfaketime.so.1]

Each fault forgets a stage's outputs, strikes while that stage is at work, notes what the run said, takes the fault
away, runs again and compares all hashes with those before. `disk` needs the right to mount; the `clock` faults need
libfaketime (Debian: apt-get install libfaketime; PyPI: libfaketime).
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tasks.pages import MLflowServer
from tasks.server import Server
from tests.flows.chain import environment, family, forget, hashes, states, wait_for
from tests.proxy import DroppingProxy

LIMIT_S = 600.0


@dataclass
class Outcome:
    """What a fault did: the run's exit code and its last line; then the next run's end. `traceback`: it showed one."""

    fault: str
    code: int | None
    said: str
    traceback: bool
    seconds: float
    again: str
    same_hashes: bool


class Run:
    """A run of the workspace in a process of its own."""

    def __init__(self, root: Path, **more: str) -> None:
        """Start it."""
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115 (closed with the object)
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run"],
            cwd=root, env=environment(**more), stdout=subprocess.DEVNULL, stderr=self.log,
        )  # fmt: skip

    def at_work(self, work: Path) -> bool:
        """Wait until the stage has finished a chunk or a checkpoint."""

        def found() -> bool:
            chunks = [c for c in work.glob("*/chunks/*") if not c.name.startswith(".")]
            return bool(chunks) or any(work.glob("*/state*/checkpoint.safetensors"))

        return wait_for(lambda: found() or self.process.poll() is not None, LIMIT_S) and self.process.poll() is None

    def end(self) -> tuple[int | None, str, bool, float]:
        """Return its exit code (None: it did not end in time and was killed), its last line, traceback, seconds."""
        code: int | None
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = None
        self.log.seek(0)
        text = self.log.read()
        lines = [line for line in text.splitlines() if line.startswith(("failed:", "fetalflex:"))] or text.splitlines()
        return code, lines[-1] if lines else "", "Traceback" in text, round(time.monotonic() - self.started, 1)


@contextmanager
def _full_disk(root: Path, stage: str) -> Iterator[Run]:
    """Fill the workspace's disk while a stage is at work."""
    ballast = root / "ballast"
    run = Run(root)
    if run.at_work(root / ".work" / stage):
        with ballast.open("wb") as out:
            try:
                while True:
                    out.write(bytes(2**20))
                    out.flush()
            except OSError:
                pass
    yield run
    ballast.unlink(missing_ok=True)


@contextmanager
def _small_disk(root: Path) -> Iterator[Path]:
    """Yield a copy of the workspace on a disk of its own, with 700 MiB free."""
    place = Path(tempfile.mkdtemp())
    used = sum(p.stat().st_size for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    size = used // 2**20 + 850
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(place)], check=True)
    try:
        yield Path(shutil.copytree(root, place / "ws", symlinks=True))
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def _lost_prefect(root: Path, stage: str) -> Iterator[Run]:
    """Cut every connection to a standing Prefect server, for good."""
    server = Server(root)
    server.wait()
    try:
        with DroppingProxy(server.port) as proxy:
            run = Run(root, PREFECT_API_URL=f"http://127.0.0.1:{proxy.port}/api")
            if run.at_work(root / ".work" / stage):
                proxy.drop_after = 0
            yield run
    finally:
        server.stop()


@contextmanager
def _short_loss(root: Path, stage: str) -> Iterator[Run]:
    """Cut every connection to a standing Prefect server for five seconds."""
    server = Server(root)
    server.wait()
    try:
        with DroppingProxy(server.port) as proxy:
            run = Run(root, PREFECT_API_URL=f"http://127.0.0.1:{proxy.port}/api")
            if run.at_work(root / ".work" / stage):
                proxy.drop_after = 0
                time.sleep(5)
                proxy.drop_after = None
            yield run
    finally:
        server.stop()


@contextmanager
def _killed_server(root: Path, stage: str) -> Iterator[Run]:
    """Kill the run's own Prefect server."""
    run = Run(root)
    if run.at_work(root / ".work" / stage):
        server = next(p for p in family(psutil.Process(run.process.pid)) if "uvicorn" in " ".join(p.cmdline()))
        server.send_signal(signal.SIGKILL)
    yield run


@contextmanager
def _lost_mlflow(root: Path, stage: str) -> Iterator[Run]:
    """Cut every connection to an MLflow server, for good."""
    server = MLflowServer(root)
    server.wait()
    try:
        with DroppingProxy(server.port) as proxy:
            run = Run(root, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{proxy.port}")
            if run.at_work(root / ".work" / stage):
                proxy.drop_after = 0
            yield run
    finally:
        server.stop()


def _clock(offset: str, library: str) -> Callable[[Path, str], Iterator[Run]]:
    """Set the clock of the run and of all processes below it by an offset while a stage is at work."""

    def jump(root: Path, stage: str) -> Iterator[Run]:
        with tempfile.NamedTemporaryFile("w", suffix=".time") as clock:
            clock.write("+0")
            clock.flush()
            run = Run(
                root, LD_PRELOAD=library, FAKETIME_TIMESTAMP_FILE=clock.name, FAKETIME_NO_CACHE="1",
                FAKETIME_DONT_FAKE_MONOTONIC="1",
            )  # fmt: skip
            if run.at_work(root / ".work" / stage):
                Path(clock.name).write_text(offset)
            yield run

    return jump


@contextmanager
def _two_at_once(root: Path, _: str) -> Iterator[Run]:
    """Start a second run at the same time; yield the one that was refused."""
    runs = [Run(root), Run(root)]
    wait_for(lambda: any(r.process.poll() is not None for r in runs), LIMIT_S)
    refused = next(r for r in runs if r.process.poll() is not None)
    yield refused
    other = next(r for r in runs if r is not refused)
    if other.process.wait(LIMIT_S):
        raise RuntimeError(f"the other run failed: {other.end()}")


def _strike(name: str, root: Path, stage: str, fault: Callable[[Path, str], Iterator[Run]]) -> Outcome:
    """Do one fault, then run again. An iterator that a context manager wraps, or one as it is."""
    before = hashes(root)
    forget(root, stage)
    struck = contextmanager(fault) if not hasattr(fault, "__wrapped__") else fault
    with struck(root, stage) as run:  # type: ignore[attr-defined]
        code, said, traceback, seconds = run.end()
    command = [sys.executable, "-m", "flows.cli", "run", "--json"]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    found = states(json.loads(done.stdout)) if done.stdout else {}
    again = ", ".join(sorted({f"{s}" for s in found.values()})) or done.stderr.strip().splitlines()[-1]
    return Outcome(name, code, said, traceback, seconds, again, hashes(root) == before)


def main() -> None:
    """Do the faults that were asked for, one after another, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--faults", nargs="*", default=["disk", "prefect", "short", "server", "mlflow", "two", "clock"])
    parser.add_argument("--faketime", default="libfaketime.so.1", help="the library's path")
    given = parser.parse_args()
    root = given.workspace.resolve()
    known: dict[str, tuple[str, Callable[..., Iterator[Run]]]] = {
        "prefect": ("sample", _lost_prefect), "short": ("sample", _short_loss), "server": ("sample", _killed_server),
        "mlflow": ("train", _lost_mlflow), "two": ("sample", _two_at_once),
    }  # fmt: skip
    for name in given.faults:
        if name == "disk":
            with _small_disk(root) as there:
                _say(_strike(name, there, "sample", _full_disk))
        elif name == "clock":
            for offset in ("-1d", "+40d"):
                _say(_strike(f"clock {offset}", root, "sample", _clock(offset, os.path.abspath(given.faketime))))  # noqa: PTH100
        else:
            stage, fault = known[name]
            _say(_strike(name, root, stage, fault))


def _say(outcome: Outcome) -> None:
    print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
