"""Untrusted files are read in a worker process that may take so much memory and time and may crash: one file is lost.

A worker serves many files and is replaced after some, or once it has grown. Nothing is pickled: requests and answers
are length-prefixed JSON, arrays follow as raw bytes. The pseudonym key goes over standard input, never in arguments or
environment. What the libraries print goes nowhere: it may quote a header. `fetalflex.dicom.serve` is the other side.
"""

import inspect
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fetalflex.errors import FetalFlexError, QuarantineError, Reason

Answer = tuple[dict[str, Any], list[npt.NDArray[Any]]]
PACKAGE = "fetalflex."
LENGTH = struct.Struct("<I")
MAX_HEAD_BYTES = 16 * 2**20
MAX_ARRAY_BYTES = 256 * 2**20
START_S = 120.0
# What a worker may see of the environment: where Python and its libraries are, and nothing that could be a secret.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV", "OMP_NUM_THREADS")

# One thread, one heap; large arrays go back to the system at once instead of leaving holes, which made workers grow by
# as much again. Below 8 MiB that costs more time than it is worth. Of small ones 16 MiB stay at hand: asking for the
# same pages anew took a quarter of the time that a still takes.
LEAN = {
    "OMP_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",  # its threads wait for work spinning: a fifth more processor time on small pictures
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**20),
}


class Key(Protocol):
    """What the sandbox needs of a pseudonym key (`fetalflex.deid.keys.PseudonymKey`)."""

    @property
    def secret(self) -> bytes: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Budget:
    """What one file may cost.

    `memory_bytes`: address space beyond what the worker's imports take. `message_s`, `file_s`: seconds of processor
    time until the next answer, and in all; `wall_factor` times as much by the clock (a busy machine is no verdict).
    `files`: a worker is replaced after so many.
    """

    memory_bytes: int = 512 * 2**20
    message_s: float = 30.0
    file_s: float = 300.0
    wall_factor: float = 5.0
    files: int = 2000


class Sandbox:
    """Runs generator functions of this package in a worker process, one request at a time.

    The worker starts with the first request. It belongs to the thread that started it (the kernel ends it with that
    thread), so a request from another thread starts a new one: give each thread a sandbox of its own.
    """

    def __init__(self, budget: Budget = Budget(), key: Key | None = None, preload: tuple[str, ...] = ()) -> None:
        """`preload`: what shall not count against the memory of a file: modules of this package, imported when a worker
        starts, or functions (`module:function`), called then.
        """
        self._budget, self._key, self._preload = budget, key, preload
        self._worker: _Worker | None = None
        self._busy = False

    def run(
        self,
        function: Callable[..., Iterator[Answer]],
        /,
        *,
        otherwise: Reason = Reason.DECODE_FAILED,
        **arguments: Any,
    ) -> Iterator[Answer]:
        """Yield what `function(**arguments)` yields in a worker: (JSON object, arrays), each as soon as it is there.

        `function`: a module-level generator function of this package; a parameter `key` is filled in by the worker.
        Raises: QuarantineError as the function does; decoder_crashed, time_limit or memory_limit; `otherwise` with the
        error's type where the function raised anything else. FetalFlexError where no worker can be started.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        if not name.startswith(PACKAGE):
            raise ValueError(f"{name} is no function of this package")
        parameters = inspect.signature(function).parameters
        if "key" in parameters and self._key is None:
            raise ValueError(f"{name} needs the pseudonym key, and the sandbox was made without one")
        inspect.signature(function).bind(**arguments, **({"key": None} if "key" in parameters else {}))
        request = json.dumps({"function": name, "arguments": arguments}).encode()
        return self._serve(request, otherwise)

    def close(self) -> None:
        """End the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The running worker's process number, or None."""
        return None if self._worker is None else self._worker.process.pid

    def _serve(self, request: bytes, otherwise: Reason) -> Generator[Answer, None, None]:
        if self._busy:
            raise RuntimeError("the sandbox is at work on another request: finish or close that first")
        self._busy = True
        delivered, killed = 0, False
        try:
            while True:
                worker, fresh = self._ready()
                try:
                    with closing(self._ask(worker, request, otherwise)) as answers:
                        for number, answer in enumerate(answers):
                            if number >= delivered:
                                delivered += 1
                                yield answer
                except _LostError as lost:
                    # An earlier file may have damaged or filled that worker: only a fresh one's verdict counts. Of one
                    # that was killed the machine may have been the reason: there a second fresh one's.
                    if lost.reason is Reason.TIME_LIMIT or (fresh and (killed or not lost.killed)):
                        raise QuarantineError(lost.reason, lost.detail) from None
                    killed = fresh
                else:
                    return
        finally:
            self._busy = False

    def _ready(self) -> tuple["_Worker", bool]:
        """Return a running worker of this thread, and whether it has served nothing yet."""
        worker = self._worker
        if worker is not None and (
            worker.thread is not threading.current_thread() or worker.process.poll() is not None
        ):
            self.close()
            worker = None
        if worker is None:
            worker = self._worker = _Worker(self._budget, self._key, self._preload)
        return worker, worker.served == 0

    def _ask(self, worker: "_Worker", request: bytes, otherwise: Reason) -> Generator[Answer, None, None]:
        whole = False
        try:
            worker.send(request)
            spent_s, factor = 0.0, self._budget.wall_factor
            while True:
                began = time.monotonic()
                head, arrays = worker.receive(
                    min(self._budget.message_s, self._budget.file_s - spent_s / factor) * factor
                )
                spent_s += time.monotonic() - began
                if "data" in head:
                    yield head["data"], arrays
                    continue
                if "memory" in head:
                    raise _LostError(Reason.MEMORY_LIMIT, f"needs more than {self._budget.memory_bytes >> 20} MiB")
                whole = True
                if "quarantine" in head:
                    raise QuarantineError(Reason(head["quarantine"][0]), str(head["quarantine"][1])[:200])
                if "broken" in head:
                    raise FetalFlexError(f"a worker cannot load its function ({head['broken']}): install it anew")
                if "error" in head:
                    raise QuarantineError(otherwise, f"cannot be read ({str(head['error'])[:60]})")
                return
        finally:
            worker.served += 1
            grown = whole and worker.grown_bytes > self._budget.memory_bytes // 4
            if not whole or grown or worker.served >= self._budget.files:
                self.close()


class _LostError(Exception):
    """A worker ended, or had to be ended, before its answer was whole."""

    def __init__(self, reason: Reason, detail: str, *, killed: bool = False) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.killed = reason, detail, killed


class _Worker:
    """A worker process and its two pipes."""

    def __init__(self, budget: Budget, key: Key | None, preload: tuple[str, ...]) -> None:
        self.thread, self.served, self.grown_bytes = threading.current_thread(), 0, 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fetalflex.dicom.sandbox"], bufsize=0, env=_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if self.process.stdin is None or self.process.stdout is None:
            raise FetalFlexError("a worker was started without pipes")
        self._requests, self._answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        greeting = {
            "parent": os.getpid(), "budget": asdict(budget), "preload": preload,
            "key": None if key is None else [key.secret.hex(), key.source],
        }  # fmt: skip
        try:
            self.send(json.dumps(greeting).encode())
            self.receive(START_S)
        except _LostError as lost:
            self.stop()
            raise FetalFlexError(f"the worker that reads DICOM cannot start ({lost.detail})") from None

    def send(self, message: bytes) -> None:
        view = memoryview(LENGTH.pack(len(message)) + message)
        try:
            while view:
                view = view[os.write(self._requests, view) :]
        except OSError:
            raise self._lost() from None

    def receive(self, within_s: float) -> Answer:
        """Return one answer. Raises: _LostError where the worker ends, sends nonsense or needs longer."""
        deadline = time.monotonic() + within_s
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        if length > MAX_HEAD_BYTES:
            raise self._lost()
        try:
            head = json.loads(bytes(self._read(length, deadline)))
            self.grown_bytes = int(head.get("grown", self.grown_bytes))
            arrays = [self._read_array(a["dtype"], a["shape"], deadline) for a in head.get("arrays", ())]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._lost() from None
        return head, arrays

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _read_array(self, dtype: str, shape: list[int], deadline: float) -> npt.NDArray[Any]:
        kind = np.dtype(str(dtype))
        size = kind.itemsize
        for side in shape:
            size *= int(side)
        if kind.kind not in "biuf" or not 0 <= size <= MAX_ARRAY_BYTES:
            raise ValueError(dtype)
        return np.frombuffer(self._read(size, deadline), kind).reshape(shape)

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            left_ms = max(0, int(1000 * (deadline - time.monotonic())))
            if not self._poll.poll(left_ms):
                raise _LostError(Reason.TIME_LIMIT, "took longer than any real file")
            count = os.readv(self._answers, [view])
            if not count:
                raise self._lost()
            view = view[count:]
        return data

    def _lost(self) -> _LostError:
        """Return why the worker is gone, or is of no use any more."""
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return _LostError(Reason.DECODER_CRASHED, "its decoder answered nonsense")
        if code == -signal.SIGXCPU:
            return _LostError(Reason.TIME_LIMIT, "took more processor time than any real file")
        what = f"signal {-code}" if code < 0 else f"exit code {code}"
        return _LostError(Reason.DECODER_CRASHED, f"its decoder died ({what})", killed=code == -signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Return a worker's environment: no secrets, one thread, and this package first on the path."""
    root = str(Path(__file__).resolve().parents[2])
    path = [root, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != root)]
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return LEAN | kept | {"PYTHONPATH": os.pathsep.join(path)}


if __name__ == "__main__":
    from fetalflex.dicom.serve import main

    sys.exit(main())
