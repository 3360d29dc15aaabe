"""Decoding in a process of its own: GDCM is C++ with a history of memory errors, and must not take the run down.

`pydicom` imports the package `gdcm` wherever it is installed; what matters is that no byte of a raw file reaches it
in the main process. So the main process names its decoding plugins one by one, and asks this worker for the rest.
The worker also has a memory limit and a time limit: a file that makes it grow or hang is one lost file.
"""

import json
import os
import resource
import selectors
import subprocess
import sys
import threading
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fetalflex.errors import QuarantineError, Reason

MEMORY_BYTES = 6 * 2**30
TIMEOUT_S = 60.0


class IsolatedDecoder:
    """A worker process that decodes frames with GDCM; it starts at the first request and again after a crash."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, path: str, frame: int) -> npt.NDArray[Any]:
        """Return raw samples [H, W] or [H, W, 3] of one frame, as stored (no colour transform).

        Raises: QuarantineError decode_failed where GDCM refuses, crashes, or needs longer than the limit.
        """
        with self._lock:
            process = self._running()
            try:
                return self._ask(process, path, frame)
            except (OSError, ValueError, EOFError) as error:
                self._stop()
                raise QuarantineError(Reason.DECODE_FAILED, "the isolated decoder stopped at this file") from error

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._stop()

    def __enter__(self) -> "IsolatedDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fetalflex.dicom.isolated"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith("FETALFLEX_KEY")},
            )  # fmt: skip
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def _ask(self, process: subprocess.Popen[bytes], path: str, frame: int) -> npt.NDArray[Any]:
        if process.stdin is None or process.stdout is None:
            raise EOFError
        process.stdin.write(json.dumps([path, frame]).encode() + b"\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(self._timeout_s):
                raise EOFError
        head = json.loads(_read_line(process.stdout))
        if "error" in head:
            raise QuarantineError(Reason.DECODE_FAILED, f"the isolated decoder refused it ({head['error']})")
        data = process.stdout.read(int(head["bytes"]))
        return np.frombuffer(data, np.dtype(head["dtype"])).reshape(head["shape"])


def _read_line(stream: IO[bytes]) -> bytes:
    line = stream.readline(4096)
    if not line.endswith(b"\n"):
        raise EOFError
    return line


def _decode_here(path: str, frame: int) -> npt.NDArray[Any]:
    from pydicom import dcmread
    from pydicom.pixels import get_decoder

    data = dcmread(path)
    decoder = get_decoder(data.file_meta.TransferSyntaxUID)
    # Raw samples: the main process applies the same colour rules to every decoder's output.
    array, _ = decoder.as_array(data, index=frame, raw=True, decoding_plugin="gdcm")
    return np.asarray(array)


def main() -> int:
    """Serve requests `[path, frame]`, a line each; answer a JSON line and the samples' bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    # Answers go to a copy of standard output; what the library prints must not mix with them.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin.buffer:
        path, frame = json.loads(line)
        try:
            array = np.ascontiguousarray(_decode_here(path, frame))
        except Exception as error:  # whatever a hostile file provokes is an answer, not the worker's end
            head, body = {"error": type(error).__name__}, b""
        else:
            body = array.tobytes()
            head = {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": len(body)}  # type: ignore[dict-item]
        answers.write(json.dumps(head).encode() + b"\n" + body)
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
