import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite

from fetalflex.dicom.sandbox import Budget, Sandbox
from fetalflex.errors import FetalFlexError, QuarantineError, Reason
from fetalflex.ingest import worker
from fetalflex.ingest.bucket import PRELOAD
from tests.fetalflex.dicom.samples import CENTER, KEY, screen, write_image

SHAPE = (500, 600)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.dcm")
    return tmp_path / "a.dcm"


@pytest.fixture
def clip(image: Path) -> Path:
    data = dcmread(image)
    # Frames larger than a pipe holds, so that a worker cannot be done before its reader is.
    data.NumberOfFrames, data.Rows, data.Columns = 2, *SHAPE
    data.PixelData = np.stack([screen(1, SHAPE), screen(2, SHAPE)]).tobytes()
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    dcmwrite(image, data)
    return image


def inspect(sandbox: Sandbox, path: Path) -> dict[str, Any]:
    ((facts, _),) = sandbox.run(worker.inspect, path=str(path))
    return facts


def reason(answers: Iterator[Any]) -> Reason:
    with pytest.raises(QuarantineError) as caught:
        list(answers)
    return caught.value.reason


def arguments(path: Path) -> dict[str, Any]:
    return {"path": str(path), "name": "made", "center": CENTER.model_dump(mode="json"), "max_side_px": 128}


def test_one_worker_serves_many_files_and_arrays_come_back_whole(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Jane Doe")
    with Sandbox() as sandbox:
        assert inspect(sandbox, clip)["frames"] == 2
        first = sandbox.pid
        with pytest.raises(QuarantineError, match="not_dicom: has no DICOM preamble"):
            inspect(sandbox, tmp_path / "notes.txt")
        greys = [grey for _, (grey,) in sandbox.run(worker.decoded, path=str(clip))]
        np.testing.assert_array_equal(np.stack(greys), np.stack([screen(1, SHAPE), screen(2, SHAPE)]))
        assert sandbox.pid == first


def test_what_is_loaded_beforehand_replaces_no_worker(tmp_path: Path) -> None:
    """The text detector alone is more than a quarter of a file's memory; one worker reads every frame all the same."""
    for seed in range(3):
        write_image(tmp_path / f"{seed}.dcm", seed)
    with Sandbox(key=KEY, preload=PRELOAD) as sandbox:
        pids = set()
        for seed in range(3):
            list(sandbox.run(worker.frames, **arguments(tmp_path / f"{seed}.dcm")))
            pids.add(sandbox.pid)
    assert len(pids) == 1


def test_the_key_is_neither_in_the_arguments_nor_in_the_environment(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETALFLEX_KEY", KEY.secret.decode())
    monkeypatch.setenv("SOME_TOKEN", "a token of a server")
    with Sandbox(key=KEY, preload=PRELOAD) as sandbox:
        ((said, _),) = sandbox.run(worker.frames, **arguments(image))
        assert len(said["kept"]["patient"]) == 32
        process = Path(f"/proc/{sandbox.pid}")
        seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert KEY.secret not in seen
        assert KEY.secret.hex().encode() not in seen
        assert b"a token" not in seen
        assert (process / "fd" / "1").readlink() == Path(os.devnull)


def test_a_function_that_needs_the_key_is_not_called_without_it(image: Path) -> None:
    with Sandbox() as sandbox, pytest.raises(ValueError, match="pseudonym key"):
        sandbox.run(worker.frames, **arguments(image))


def test_a_wrong_argument_is_the_callers_mistake_and_no_quarantine(image: Path) -> None:
    with Sandbox() as sandbox, pytest.raises(TypeError):
        sandbox.run(worker.inspect, paths=str(image))


def test_only_functions_of_this_package_are_run(image: Path) -> None:
    with Sandbox() as sandbox:
        with pytest.raises(ValueError, match="no function of this package"):
            sandbox.run(reason, answers=1)  # type: ignore[arg-type]
        inspect(sandbox, image)
        request = b'{"function": "os:system", "arguments": {"command": "true"}}'
        with pytest.raises(FetalFlexError, match="cannot load"):
            list(sandbox._serve(request, Reason.DECODE_FAILED))


def test_a_crash_costs_one_file_and_the_next_gets_a_new_worker(clip: Path) -> None:
    with Sandbox() as sandbox:
        answers = sandbox.run(worker.decoded, path=str(clip))
        next(answers)
        assert sandbox.pid is not None
        os.kill(sandbox.pid, signal.SIGSEGV)
        # What was sent before the crash may still lie in the pipe: the second frame, but never a good end.
        with pytest.raises(QuarantineError, match=r"decoder_crashed: .*\(signal 11\)"):
            for _ in answers:
                pass
        assert inspect(sandbox, clip)["frames"] == 2


def test_a_crash_in_a_used_worker_is_tried_again_in_a_fresh_one(clip: Path) -> None:
    with Sandbox() as sandbox:
        inspect(sandbox, clip)
        answers = sandbox.run(worker.decoded, path=str(clip))
        found = [next(answers)[0]["number"]]
        assert sandbox.pid is not None
        os.kill(sandbox.pid, signal.SIGSEGV)
        assert found + [said["number"] for said, _ in answers] == [0, 1]


def test_a_worker_killed_from_outside_costs_nothing_and_twice_in_a_row_the_file(clip: Path) -> None:
    """Somebody's kill, or the system's for want of memory, says nothing of the file; a file that calls for it twice."""

    wanted = [0, 1, 0]  # one more than there are kills: no worker can be done before it is killed

    def found(sandbox: Sandbox, kills: int) -> list[int]:
        numbers = []
        for said, _ in sandbox.run(worker.decoded, path=str(clip), numbers=wanted):
            numbers.append(said["number"])
            if kills:
                assert sandbox.pid is not None
                os.kill(sandbox.pid, signal.SIGKILL)
                kills -= 1
        return numbers

    with Sandbox() as sandbox:
        assert found(sandbox, 1) == wanted
    with Sandbox() as sandbox, pytest.raises(QuarantineError, match=r"decoder_crashed: .*\(signal 9\)"):
        found(sandbox, 2)


def test_a_worker_that_hangs_is_ended_by_the_clock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")  # opening it waits for a writer that never comes
    with Sandbox(Budget(message_s=0.5, wall_factor=1)) as sandbox:
        assert reason(sandbox.run(worker.decoded, path=str(tmp_path / "pipe.dcm"))) == Reason.TIME_LIMIT
        assert sandbox.pid is None


def test_a_worker_that_computes_too_long_is_ended_by_the_kernel(image: Path) -> None:
    data = dcmread(image)
    data.Rows, data.Columns, data.NumberOfFrames, data.PixelData = 4096, 4096, 120, b"\0\0"
    dcmwrite(image, data)
    raw, size = image.read_bytes(), 4096 * 4096 * 120
    with image.open("wb") as stream:  # sparse: two gigabytes to hash, none on the disk
        stream.write(raw[:-6] + size.to_bytes(4, "little"))
        stream.truncate(len(raw) - 2 + size)
    with Sandbox(Budget(message_s=0.01, wall_factor=6000)) as sandbox:
        assert reason(sandbox.run(worker.inspect, path=str(image))) == Reason.TIME_LIMIT


def test_a_file_that_asks_for_too_much_memory_is_refused(tmp_path: Path, image: Path) -> None:
    write_image(tmp_path / "large.dcm", pixels=screen(shape=(4000, 4000)))
    with Sandbox(Budget(memory_bytes=24 * 2**20)) as sandbox:
        inspect(sandbox, image)
        assert reason(sandbox.run(worker.decoded, path=str(tmp_path / "large.dcm"))) == Reason.MEMORY_LIMIT
        assert inspect(sandbox, image)["kind"] == "image"


def test_a_worker_is_replaced_after_so_many_files(image: Path) -> None:
    with Sandbox(Budget(files=2)) as sandbox:
        inspect(sandbox, image)
        first = sandbox.pid
        inspect(sandbox, image)
        assert sandbox.pid is None
        inspect(sandbox, image)
        assert sandbox.pid != first


def test_a_worker_dies_with_its_parent(image: Path) -> None:
    code = (
        "import os; from fetalflex.dicom.sandbox import Sandbox; from fetalflex.ingest import worker\n"
        f"box = Sandbox(); list(box.run(worker.inspect, path={str(image)!r})); print(box.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{int(done.stdout)}/cmdline").exists() and _runs(int(done.stdout)):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        threading.Event().wait(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_another_thread_gets_a_worker_of_its_own(image: Path) -> None:
    with Sandbox() as sandbox:
        thread = threading.Thread(target=inspect, args=(sandbox, image))
        thread.start()
        thread.join()
        first = sandbox.pid
        assert inspect(sandbox, image)["kind"] == "image"
        assert sandbox.pid != first


def test_an_iteration_cut_short_leaves_the_sandbox_ready(clip: Path) -> None:
    with Sandbox() as sandbox:
        answers = sandbox.run(worker.decoded, path=str(clip))
        next(answers)
        with pytest.raises(RuntimeError, match="at work"):
            inspect(sandbox, clip)
        answers.close()  # type: ignore[attr-defined]
        assert inspect(sandbox, clip)["frames"] == 2
