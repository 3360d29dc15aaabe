"""Kill -9, many times: of a run, dvc, a stage, a server, a release, at random and at the moments that hurt most.

With a finished workspace of the preset `tiny` (made by `fetalflex init DIR --preset tiny` and `fetalflex run`, its gate
set so that it accepts an image, and committed):

    python -m benchmarks.kills DIR --kills 200 --lanes 2 --out kills.csv

DIR itself stays as it is: every lane works in a copy of its own beside it. Of ten kills three are of the whole chain (a
run on a standing server, or on one of its own, which is a victim, too; a release or `dvc push` while it pushes), seven
of one stage (its process as dvc.yaml calls it; `dvc repro` of it while it writes dvc.lock). Then the same is done
again, after dvc or a run a whole run, and everything compared. The table grows by a line per kill, and the same command
goes on where it stopped.
"""

import argparse
import csv
import os
import queue
import random
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

from benchmarks.killing import CHUNKED, MISSED, STAGES, TRAINED, Aim, Kill, Lane, Target, Way
from benchmarks.warm import Warm
from tasks import versioning
from tasks.server import Server, prefect_environment
from tests.flows.chain import environment

QUICK = ("ingest@phantom-tiny-b", "prealign", "train", "gate")  # twice as often as the others
CHAIN: tuple[Way, ...] = ("run", "server", "run", "push", "run", "release", "run", "server", "run", "run")


def plan(number: int, seed: int) -> tuple[Target, random.Random]:
    """Return what a kill of this number strikes, and the chance that decides the rest.

    >>> sum(plan(n, 0)[0].scope == "chain" for n in range(200))
    60
    """
    chance = random.Random(f"{seed}/{number}")  # noqa: S311
    stage = chance.choice((*STAGES, *QUICK))
    if number % 10 in (0, 3, 6):
        way = CHAIN[(number // 10 * 3 + number % 10 // 3) % len(CHAIN)]
    else:
        way = "dvc" if number % 7 == 0 else "stage"
    aims = _aims(stage.partition("@")[0])
    aim: Aim = "push" if way in ("release", "push") else "lock" if way == "dvc" else chance.choice(aims)
    if way in ("run", "server") and chance.random() < 0.2:
        aim = "lock"
    if aim == "push":
        stage = "sample"
    elif aim == "lock" and chance.random() < 0.75:
        stage = "gate"  # the lock is written alike whatever ran before, and this is the shortest
    return Target(number, way, stage, aim, way == "stage" and number % 4 != 1), chance


def _aims(stage: str) -> list[Aim]:
    """Return the moments that a stage has."""
    found: list[Aim] = ["random", "publish"]
    if stage in CHUNKED:
        found += ["chunk write", "chunk write", "chunk move"]
    if stage in TRAINED:
        found += ["checkpoint", "checkpoint"]
    return found


class Table:
    """The kills so far, a line each, on disk at once."""

    def __init__(self, path: Path) -> None:
        """Open it, with what is there."""
        self._path, self._lock = path, threading.Lock()

    def rows(self) -> list[dict[str, str]]:
        """Return all lines."""
        if not self._path.is_file():
            return []
        with self._path.open(newline="") as table:
            return list(csv.DictReader(table))

    def add(self, kill: Kill) -> None:
        """Append a line."""
        with self._lock:
            new = not self._path.is_file()
            with self._path.open("a", newline="") as out:
                writer = csv.DictWriter(out, [f.name for f in fields(Kill)])
                if new:
                    writer.writeheader()
                writer.writerow(asdict(kill))
                out.flush()
                os.fsync(out.fileno())
            print(kill, flush=True)


def work_through(
    base: Path, lane: int, left: "queue.SimpleQueue[int]", table: Table, seed: int, server: Server
) -> None:
    """Do kills in a lane's own copy until none is left; one that left something else is kept, and a new copy made."""
    root = base.with_name(f"{base.name}-{lane}")
    served = prefect_environment(base) | {"PREFECT_API_URL": server.url}
    here = None
    warm = Warm(environment() | served)
    while True:
        try:
            number = left.get_nowait()
        except queue.Empty:
            warm.stop()
            return
        here = here or Lane(_copied(base, root), served, warm)
        kill = here.strike(*plan(number, seed))
        table.add(kill)
        if not kill.same_hashes:
            shutil.rmtree(kept := root.with_name(f"{base.name}-kill-{number}"), ignore_errors=True)
            root.rename(kept)  # for a person who looks into it
            here = None


def _copied(base: Path, root: Path) -> Path:
    """Return a fresh copy of a workspace, its remote its own, without the databases that name the old place."""
    for path in (root, remote := root.with_name(f"{root.name}.remote")):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(
        base, root, symlinks=True, ignore=shutil.ignore_patterns("tmp", "mlflow.db", "mlartifacts", "prefect")
    )
    versioning.use_remote(root, "storage", str(remote))
    return root


def summarise(rows: list[dict[str, str]]) -> None:
    """Print what came of all kills."""
    struck = [r for r in rows if r["victim"] != MISSED]
    print(f"{len(struck)} kills ({len(rows) - len(struck)} more came too late)")
    for name in ("scope", "way", "aim"):
        print(f"by {name}: " + ", ".join(f"{k} {n}" for k, n in Counter(r[name] for r in struck).most_common()))
    for name in ("survivors", "half", "redone", "steps", "lost", "twice"):
        values = [int(r[name]) for r in rows]
        print(f"{name}: {sum(values)} in all, {max(values, default=0)} at most")
    print(f"not as undisturbed: {[int(r['number']) for r in rows if r['same_hashes'] != 'True']}")
    print(f"seconds: {sum(float(r['seconds']) for r in rows):.0f} in all lanes")


def main() -> None:
    """Run what is left of the kills and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("kills.csv"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    base, table = given.workspace.resolve(), Table(given.out)
    done = {int(row["number"]) for row in table.rows()}
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(given.kills):
        if number not in done:
            left.put(number)
    server = Server(base)
    try:
        server.wait()
        with ThreadPoolExecutor(given.lanes) as pool:
            lanes = [pool.submit(work_through, base, n, left, table, given.seed, server) for n in range(given.lanes)]
            for lane in lanes:
                lane.result()
    finally:
        server.stop()
    summarise(table.rows())


if __name__ == "__main__":
    main()
