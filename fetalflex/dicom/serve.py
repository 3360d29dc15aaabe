"""The worker's side of `fetalflex.dicom.sandbox`: set limits, then answer requests until standard input ends."""

import ctypes
import importlib
import inspect
import json
import math
import os
import resource
import signal
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.dicom.sandbox import LENGTH, MAX_HEAD_BYTES, PACKAGE
from fetalflex.errors import QuarantineError, Reason

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
_state = {"inside": False}


def inside_worker() -> bool:
    """Whether this process is a sandbox's worker: only there may GDCM see a byte of a raw file."""
    return _state["inside"]


class _Server:
    """Answers requests within a budget."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = requests, answers
        greeting = self._receive()
        if greeting is None or os.getppid() != greeting["parent"]:
            raise SystemExit(1)
        self._budget: dict[str, float] = greeting["budget"]
        self._key: list[str] | None = greeting["key"]
        self._functions: dict[str, Callable[..., Iterator[Any]]] = {}
        self._base_bytes = _virtual_bytes()
        for name in greeting["preload"]:
            self._preload(name)
        self._send({"ready": True})

    def serve(self) -> None:
        """Answer until there is no more request."""
        while (request := self._receive()) is not None:
            try:
                function = self._load(request["function"])
            except Exception as error:
                self._send({"broken": type(error).__name__})
                continue
            self._send(self._answer(function, request["arguments"]) | {"grown": _virtual_bytes() - self._base_bytes})

    def _answer(self, function: Callable[..., Iterator[Any]], arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a function, send what it yields, and return how it ended."""
        end = _processor_s() + self._budget["file_s"]
        try:
            self._limit_time(end)
            for data, arrays in function(**arguments, **self._secrets(function)):
                self._send_data(data, arrays)
                self._limit_time(end)
        except QuarantineError as error:
            return {"quarantine": [error.reason.value, error.detail]}
        except MemoryError:
            return {"memory": True}
        except Exception as error:  # whatever a hostile file provokes is an answer; its text may quote the file
            return {"error": type(error).__name__}
        return {"end": True}

    def _secrets(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the key as the type that the function's parameter names, so that no layer above is imported here."""
        if "key" not in inspect.signature(function).parameters or self._key is None:
            return {}
        return {"key": typing.get_type_hints(function)["key"](bytes.fromhex(self._key[0]), self._key[1])}

    def _preload(self, name: str) -> None:
        """Import a module, or call a function that loads what it keeps, before any file is seen."""
        module, _, function = name.partition(":")
        self._load(f"{module}:{function}")
        if function:
            with self._uncounted():
                self._functions[name]()

    def _load(self, name: str) -> Callable[..., Iterator[Any]]:
        """Return a function by its name; what its import takes does not count against the files' memory."""
        if name not in self._functions:
            if not name.startswith(PACKAGE):
                raise ImportError(name)
            with self._uncounted():
                module, _, function = name.partition(":")
                self._functions[name] = getattr(importlib.import_module(module), function or "__name__")
        return self._functions[name]

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        """Lift the memory limit for a block of our own; afterwards it stands as much higher as the block has taken."""
        before = _virtual_bytes()
        # The hard limit stays open, so that a later import can lift the soft one.
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        yield
        self._base_bytes += _virtual_bytes() - before
        limit = self._base_bytes + int(self._budget["memory_bytes"])
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def _limit_time(self, end_s: float) -> None:
        """Let the kernel end this process after so much more processor time."""
        limit = math.ceil(min(_processor_s() + self._budget["message_s"], end_s))
        resource.setrlimit(resource.RLIMIT_CPU, (max(1, limit), resource.RLIM_INFINITY))

    def _send_data(self, data: dict[str, Any], arrays: list[npt.NDArray[Any]]) -> None:
        whole = [np.ascontiguousarray(a) for a in arrays]
        heads = [{"dtype": a.dtype.str, "shape": list(a.shape)} for a in whole]
        self._send({"data": data, "arrays": heads}, whole)

    def _send(self, head: dict[str, Any], arrays: list[npt.NDArray[Any]] | tuple[()] = ()) -> None:
        text = json.dumps(head).encode()
        if len(text) > MAX_HEAD_BYTES:
            raise QuarantineError(Reason.TOO_LARGE, f"says {len(text)} bytes of itself")
        self._write(LENGTH.pack(len(text)) + text)
        for array in arrays:
            self._write(array.reshape(-1).view(np.uint8).data)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._answers, view) :]

    def _receive(self) -> dict[str, Any] | None:
        length = self._read(LENGTH.size)
        text = None if length is None else self._read(LENGTH.unpack(length)[0])
        return None if text is None else json.loads(text)

    def _read(self, size: int) -> bytes | None:
        parts, left = [], size
        while left:
            part = os.read(self._requests, left)
            if not part:
                return None
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def main() -> int:
    """Serve requests of the parent process. It ends with the parent, leaves no core dump and gains no rights."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a patient's image
    _state["inside"] = True
    # Requests and answers move to numbers of their own; what libraries read or print meets nothing.
    requests, answers, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    sys.stdout.flush()
    try:
        _Server(requests, answers).serve()
    except BrokenPipeError:
        return 1
    return 0


def _virtual_bytes() -> int:
    """Return the address space of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
