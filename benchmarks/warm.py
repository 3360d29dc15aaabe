"""Stage processes that need not import anything: a process that has imported all stages forks itself for each.

    python -m benchmarks.warm

Reads a JSON object per line (`module`, `arguments`, `cwd`, `stderr`: a file) and answers with the process's number,
then with its exit code.
"""

import importlib
import json
import os
import runpy
import select
import subprocess
import sys
from pathlib import Path

STAGES = ("ingest", "masks", "prealign", "train", "sample", "score", "evaluate", "gate")


class Warm:
    """The forking process, seen from outside. One stage at a time."""

    def __init__(self, env: dict[str, str]) -> None:
        """Start it; its first answer waits for its imports."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.warm"],
            env=env,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, module: str, arguments: list[str], cwd: Path, stderr: Path) -> "Forked":
        """Run a stage's module as `python -m MODULE ARGUMENTS` does."""
        request = {"module": module, "arguments": arguments, "cwd": str(cwd), "stderr": str(stderr)}
        pipe = self.process.stdin
        if pipe is None:
            raise RuntimeError("started without a pipe")
        pipe.write(json.dumps(request).encode() + b"\n")
        pipe.flush()
        return Forked(self, self.answer())

    def answer(self, within_s: float | None = None) -> int | None:
        """Return the next number that it says, None where it says none in time."""
        pipe = self.process.stdout
        if pipe is None or not select.select([pipe], [], [], within_s)[0]:
            return None
        return int(pipe.readline())  # not buffered: what is left to read, select sees

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


class Forked:
    """One stage's process, with what is needed of `subprocess.Popen`."""

    def __init__(self, warm: Warm, pid: int | None) -> None:
        """`pid`: what the forking process said."""
        if pid is None:
            raise RuntimeError("no process was forked")
        self._warm, self.pid, self.returncode = warm, pid, None

    returncode: int | None

    def poll(self) -> int | None:
        """Return its exit code, None while it is at work."""
        return self._end(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code. Raises: subprocess.TimeoutExpired."""
        code = self._end(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked stage", timeout or 0.0)
        return code

    def kill(self) -> None:
        """Kill it."""
        os.kill(self.pid, 9)

    def _end(self, within_s: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = self._warm.answer(within_s)
        return self.returncode


def main() -> None:
    """Import all stages, then fork for every line."""
    for stage in STAGES:
        importlib.import_module(f"flows.{stage}")
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(request)
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(request: dict[str, str]) -> None:
    """Be the stage's process, in the child."""
    nothing = os.open(os.devnull, os.O_RDWR)
    error = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, opened in enumerate((nothing, nothing, error)):
        os.dup2(opened, number)
    os.chdir(request["cwd"])
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
