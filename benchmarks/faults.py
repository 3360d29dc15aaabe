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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tasks.pages import MLflowServer
from tasks.server import Server, UvicornProcess
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


Fault = Callable[[Path, str], AbstractContextManager[Run]]


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


def _cut(kind: type[UvicornProcess], variable: str, path: str = "", seconds: float | None = None) -> Fault:
    """Return a fault: connections to a standing server, which `variable` names, are cut, for good or for seconds."""

    @contextmanager
    def cut(root: Path, stage: str) -> Iterator[Run]:
        server = kind(root)  # type: ignore[call-arg]  # both kinds that there are choose their own port
        server.wait()
        try:
            with DroppingProxy(server.port) as proxy:
                run = Run(root, **{variable: f"http://127.0.0.1:{proxy.port}{path}"})
                if run.at_work(root / ".work" / stage):
                    proxy.drop_after = 0
                    if seconds is not None:
                        time.sleep(seconds)
                        proxy.drop_after = None
                yield run
        finally:
            server.stop()

    return cut


@contextmanager
def _killed_server(root: Path, stage: str) -> Iterator[Run]:
    """Kill the run's own Prefect server."""
    run = Run(root)
    if run.at_work(root / ".work" / stage):
        server = next(p for p in family(psutil.Process(run.process.pid)) if "uvicorn" in " ".join(p.cmdline()))
        server.send_signal(signal.SIGKILL)
    yield run


def _clock(offset: str, library: str) -> Fault:
    """Set the clock of the run and of all processes below it by an offset while a stage is at work."""

    @contextmanager
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


def _strike(name: str, root: Path, stage: str, fault: Fault) -> Outcome:
    """Do one fault, then run again."""
    before = hashes(root)
    forget(root, stage)
    with fault(root, stage) as run:
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
    known: dict[str, tuple[str, Fault]] = {
        "prefect": ("sample", _cut(Server, "PREFECT_API_URL", "/api")),
        "short": ("sample", _cut(Server, "PREFECT_API_URL", "/api", 5)),
        "mlflow": ("train", _cut(MLflowServer, "MLFLOW_TRACKING_URI")),
        "server": ("sample", _killed_server), "two": ("sample", _two_at_once),
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
