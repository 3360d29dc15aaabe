"""`kill -9` in each stage: the next run goes on from finished chunks or the last checkpoint, to the same bytes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.flows.chain import environment, family, forget, hashes, is_dead, run, wait_for

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]
STAGES = ["ingest@phantom-tiny-b", "masks", "prealign", "train", "sample", "score", "evaluate", "gate"]
# In CI three stages are killed; FETALFLEX_ALL_KILLS=1 kills the run, and dvc alone, in each stage.
KILLS = (
    [(stage, whom) for stage in STAGES for whom in ("run", "dvc")]
    if os.environ.get("FETALFLEX_ALL_KILLS")
    else [("masks", "run"), ("train", "dvc"), ("sample", "run")]
)


def _finished(work: Path) -> dict[str, int]:
    """Return finished chunks -> inode: a chunk made again is another folder."""
    found = {}
    for chunk in work.glob("*/chunks/*"):
        if not chunk.name.startswith("."):  # the others are being written
            try:
                found[chunk.name] = chunk.stat().st_ino
            except FileNotFoundError:
                continue
    return found


def _at_work(work: Path) -> bool:
    """A stage is at work when its folder holds a finished chunk or a checkpoint (the gate: when it has a folder)."""
    if work.name == "gate":
        return any(p.is_dir() for p in work.glob("*"))
    return bool(_finished(work)) or any(work.glob("*/state*/checkpoint.safetensors"))


@contextmanager
def _watching(work: Path) -> Iterator[tuple[dict[str, set[int]], dict[str, int]]]:
    """Yield what a run makes: chunk -> inodes seen, loss curve -> how often its first step was taken."""
    chunks: dict[str, set[int]] = {}
    first_steps: dict[str, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for name, inode in _finished(work).items():
                chunks.setdefault(name, set()).add(inode)
            for curve in work.glob("*/*.jsonl"):
                try:
                    lines = [json.loads(line) for line in curve.read_text().splitlines() if line.endswith("}")]
                except FileNotFoundError:
                    continue
                first_steps[curve.name] = sum(line["step"] == 1 for line in lines)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield chunks, first_steps
    finally:
        ended.set()
        thread.join()


def _kill(process: "subprocess.Popen[bytes]", whom: str) -> list[psutil.Process]:
    """Kill the whole run, or its dvc alone; return all processes that must end with it."""
    everyone = family(psutil.Process(process.pid))
    if whom == "run":
        os.kill(process.pid, signal.SIGKILL)
        return everyone
    dvc = next(p for p in everyone if "dvc repro" in " ".join(p.cmdline()))
    mortal = family(dvc)
    dvc.kill()
    return mortal


@pytest.mark.parametrize(("stage", "whom"), KILLS)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    clone: Path, served: dict[str, str], stage: str, whom: str
) -> None:
    before, work = hashes(clone), clone / ".work" / stage
    forget(clone, stage)
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run"],
        cwd=clone, env=environment(clone), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert wait_for(lambda: _at_work(work), 300), "the stage did not begin"
        mortal = _kill(process, whom)
        process.wait(60)
        assert wait_for(lambda: all(map(is_dead, mortal)), 15), [p for p in mortal if not is_dead(p)]
    finished = _finished(work)
    trained = {p.parent.name.replace("state", "curve").replace("curve-", "") for p in work.glob("*/state*/*.safe*")}
    with _watching(work) as (chunks, first_steps):
        assert run(clone, env=environment(clone, **served))["ok"]
    assert hashes(clone) == before
    assert not list(work.glob("*/")), "the work folder is cleaned once dvc.lock shows the outputs"
    assert {name: {inode} for name, inode in finished.items()}.items() <= chunks.items(), "no finished chunk is redone"
    for name in trained:
        assert first_steps.get(f"{name}.jsonl", 1) == 1, f"{name} goes on from its checkpoint"
