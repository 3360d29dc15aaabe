"""Kill -9, many times: of a run, of dvc, of a stage or of the server, at random and at the moments that hurt most.

In a finished workspace of the preset `tiny` (made by `fetalflex init DIR --preset tiny` and `fetalflex run`):

    python -m benchmarks.kills DIR --kills 200 --out kills.csv

Each kill forgets a stage's outputs, runs, kills at the aim, looks at what is visible, runs again and compares. The
table grows by a line per kill, and the same command goes on after the last one. 3 of 10 kills aim at a whole run, 7
at one process below it.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from fetalflex import tables
from fetalflex.release.chain import dvc_md5
from tests.flows.chain import environment, family, forget, hashes, is_dead, run, wait_for

STAGES = ("ingest@phantom-tiny-b", "masks", "prealign", "train", "sample", "score", "evaluate", "gate")
CHUNKED = ("ingest", "masks", "sample", "score", "evaluate")
TRAINED = ("masks", "prealign", "train")
LIMIT_S = 600.0


@dataclass
class Kill:
    """One kill and what came of it. `redone`: finished chunks that were made again; `half`: outputs seen half-made."""

    number: int
    scope: str
    stage: str
    aim: str
    victim: str
    survivors: int
    half: int
    redone: int
    lost: int
    twice: int
    same_hashes: bool
    seconds: float


def main() -> None:
    """Run what is left of the kills and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("kills.csv"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", default=list(STAGES))
    given = parser.parse_args()
    root = given.workspace.resolve()
    known, images = hashes(root), _images(root)
    done = sum(1 for _ in given.out.open()) - 1 if given.out.is_file() else 0
    for number in range(max(done, 0), given.kills):
        kill = _kill_once(root, number, random.Random(f"{given.seed}/{number}"), given.stages, (known, images))  # noqa: S311
        _append(given.out, kill)
        print(kill, flush=True)
    _summarise(given.out)


def _kill_once(
    root: Path, number: int, chance: random.Random, stages: list[str], expected: tuple[dict[str, str], Counter[str]]
) -> Kill:
    known, images = expected
    scope = "run" if chance.random() < 0.3 else "process"
    stage = chance.choice(stages)
    aim = chance.choice(_aims(stage.partition("@")[0]))
    work = root / ".work" / stage
    forget(root, stage)
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run"],
        cwd=root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        started = time.monotonic()
        wait_for(lambda: process.poll() is not None or _reached(root, work, aim), LIMIT_S)
        if aim == "random":
            time.sleep(chance.random() * 10)
        everyone = family(psutil.Process(process.pid)) if process.poll() is None else []
        victim = "none: the run had ended" if not everyone else _strike(everyone, scope, chance)
        seconds = time.monotonic() - started
        process.wait(LIMIT_S)
    # A killed server or stage ends the run by itself; whatever was below the victim must be gone soon.
    wait_for(lambda: all(map(is_dead, everyone)), 30)
    half = sum(_is_half(root / path, md5) for path, md5 in known.items())
    before = _chunks(work)
    seen: dict[str, set[int]] = {}
    ok = _run_watched(root, work, seen)
    again = _images(root)
    return Kill(
        number, scope, stage, aim, victim, sum(not is_dead(p) for p in everyone), half,
        sum(seen.get(name, {inode}) != {inode} for name, inode in before.items()),
        sum((images - again).values()), sum((again - images).values()), ok and hashes(root) == known, round(seconds, 1),
    )  # fmt: skip


def _aims(stage: str) -> list[str]:
    """Return the moments that a stage has."""
    chunked = ["chunk write", "chunk move"] if stage in CHUNKED else []
    return ["random", "lock", *chunked, *(["checkpoint"] if stage in TRAINED else [])]


def _strike(everyone: list[psutil.Process], scope: str, chance: random.Random) -> str:
    """Kill the run itself, or any one process below it; return what it was."""
    chosen = everyone[0] if scope == "run" else chance.choice(everyone)
    try:
        name = " ".join(chosen.cmdline()[1:5])
        chosen.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return "none: it had just ended"
    return name


def _reached(root: Path, work: Path, aim: str) -> bool:
    """Return whether the moment that the kill is aimed at has come."""
    tests: dict[str, Callable[[], bool]] = {
        "random": lambda: any(p.is_dir() for p in work.glob("*")),
        "chunk write": lambda: any(work.glob("*/chunks/.*.partial")),
        "chunk move": lambda: bool(_chunks(work)),
        "checkpoint": lambda: (
            any(work.glob("*/state*/.*.partial")) or any(work.glob("*/state*/checkpoint.safetensors"))
        ),
        "lock": lambda: (root / "dvc.lock").stat().st_mtime > time.time() - 0.2,
    }
    return tests[aim]()


def _chunks(work: Path) -> dict[str, int]:
    """Return finished chunks with their inodes: one that is made again has another."""
    found = {}
    for chunk in work.glob("*/chunks/*"):
        if not chunk.name.startswith("."):
            try:
                found[chunk.name] = chunk.stat().st_ino
            except FileNotFoundError:
                continue
    return found


def _run_watched(root: Path, work: Path, seen: dict[str, set[int]]) -> bool:
    """Run to the end beside a watch over the chunks; return whether every stage is up to date."""
    import threading

    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for name, inode in _chunks(work).items():
                seen.setdefault(name, set()).add(inode)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return bool(run(root, env=environment())["ok"])
    finally:
        ended.set()
        thread.join()


def _is_half(path: Path, md5: str) -> bool:
    """Return whether an output is in place and is not the whole one."""
    found = dvc_md5(path)
    return found is not None and found != md5


def _images(root: Path) -> Counter[str]:
    shards = sorted((root / "data" / "synthetic").glob("images-*.parquet"))
    return Counter(name for s in shards for name in tables.read_shards([s], tables.Synthetic)["image_id"].to_list())


def _append(path: Path, kill: Kill) -> None:
    new = not path.is_file()
    with path.open("a", newline="") as out:
        writer = csv.DictWriter(out, [f.name for f in fields(Kill)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(kill))
        out.flush()
        os.fsync(out.fileno())


def _summarise(path: Path) -> None:
    with path.open(newline="") as table:
        rows = list(csv.DictReader(table))
    print(f"{len(rows)} kills, {sum(r['scope'] == 'run' for r in rows)} of a whole run")
    for name in ("survivors", "half", "redone", "lost", "twice"):
        print(f"{name}: {sum(int(r[name]) for r in rows)} in all, {max(int(r[name]) for r in rows)} at most")
    print(f"other hashes than undisturbed: {sum(r['same_hashes'] != 'True' for r in rows)}")


if __name__ == "__main__":
    main()
