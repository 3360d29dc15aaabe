"""Ingest and sampling with one worker and with two: wall times of whole stages and of their chunks, in turns.

In a finished workspace or checkout of the preset `demo`:

    python -m benchmarks.scaling DIR [--stages ingest@phantom-north sample] [--rounds 2]

Each time the stage's work is forgotten, so that every chunk is made; its outputs come out the same. A standing Prefect
server is started for all of them. The machine must have nothing else to do.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ruamel.yaml import YAML

from tasks import versioning
from tasks.server import Server
from tasks.stage import clean_work
from tests.flows.chain import differing, environment

_CHUNKS = re.compile(r": (?:files|images): \d+/\d+ in (\d+) s")


def set_compute(root: Path, workers: int, runner: str) -> None:
    """Write how a stage spreads its work."""
    editor = YAML()
    values = editor.load((root / "params.yaml").read_text())
    values["compute"] |= {"workers": workers, "runner": runner}
    with (root / "params.yaml").open("w") as out:
        editor.dump(values, out)


def time_stage(root: Path, stage: str, server: Server) -> tuple[float, float]:
    """Run a stage's process anew; return its seconds by the clock, and those of its chunks as it says them."""
    name, _, center = stage.partition("@")
    clean_work(root, stage)
    for out in versioning.outputs(root, stage):
        shutil.rmtree(root / out)
    command = [sys.executable, "-m", f"flows.{name}", *(["--center", center] if center else [])]
    began = time.monotonic()
    code = root if (root / "flows").is_dir() else Path.cwd()  # a checkout runs its own
    done = subprocess.run(
        command, cwd=root, env=environment(code, PREFECT_API_URL=server.url),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.monotonic() - began
    if wrong := differing(root, stage):
        raise RuntimeError(f"{stage}: other bytes in {wrong}")
    return seconds, float(max(map(int, _CHUNKS.findall(done.stderr))))  # the last says the whole


def main() -> None:
    """Time each stage with one worker and with two in turns, and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--stages", nargs="*", default=["ingest@phantom-north", "sample"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runner", choices=("threads", "dask"), default="threads")
    given = parser.parse_args()
    root = given.workspace.resolve()
    kept = (root / "params.yaml").read_text()
    server = Server(root)
    try:
        server.wait()
        for stage in given.stages:
            found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
            for number in range(2 * given.rounds):
                workers = (1, 2, 2, 1)[number % 4]
                set_compute(root, workers, given.runner)
                found[workers].append(time_stage(root, stage, server))
                print(stage, given.runner, workers, *(f"{s:.1f}" for s in found[workers][-1]), flush=True)
            for what, column in (("whole process", 0), ("chunks", 1)):
                one, two = (statistics.median(seconds[column] for seconds in found[n]) for n in (1, 2))
                print(f"{stage}, {what}: {one:.1f} s with one worker, {two:.1f} s with two: {one / two:.2f} times")
            print(f"load: {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        (root / "params.yaml").write_text(kept)
        server.stop()


if __name__ == "__main__":
    main()
