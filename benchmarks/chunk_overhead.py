"""What a chunk costs beside its work.

10,000 images through a dummy model, on threads, with a Prefect server of its own.

    python -m benchmarks.chunk_overhead --images 10000 --per-chunk 20

Prints seconds per chunk beside the dummy's own, the server's resident memory as the run goes on, and how much its
database grows per chunk.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import yaml
from prefect import flow

from fetalflex.artifacts import encode_png
from fetalflex.params import preset_text, read_params
from tasks.chunks import map_chunks, task_runner
from tasks.server import Server, prefect_settings, shared_server
from tasks.stage import StageRun


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--per-chunk", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        with shared_server(root) as server, prefect_settings(server):
            if server is None:
                raise SystemExit("unset PREFECT_API_URL: the server's own memory is measured")
            _measure(root, server, given.images, given.per_chunk)


def _measure(root: Path, server: Server, images: int, per_chunk: int) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load(preset_text("tiny"))))
    params = read_params(root / "params.yaml")
    run = StageRun("dummy", root, root / "work", params, "key", (), ())
    names = [f"{n:06d}" for n in range(-(-images // per_chunk))]
    process, spent, memory = psutil.Process(server.process.pid), list[float](), list[float]()
    database = root / ".fetalflex" / "prefect" / "prefect.db"

    def make(name: str, folder: Path) -> None:
        started = time.monotonic()
        grey = np.full((64, 64), int(name) % 256, np.uint8)
        for number in range(per_chunk):
            (folder / f"{number}.png").write_bytes(encode_png(grey))
        spent.append(time.monotonic() - started)
        if len(spent) % max(1, len(names) // 10) == 0:
            memory.append(process.memory_info().rss / 2**20)

    @flow(name="dummy", persist_result=False)
    def dummy(some: list[str]) -> None:
        map_chunks(run, "dummy", some, make)

    bound = dummy.with_options(task_runner=task_runner(params.compute))
    bound(names[:2])  # connections and imports are not what a chunk costs
    spent.clear()
    before, started = _size(database), time.monotonic()
    bound(names)
    seconds = time.monotonic() - started
    time.sleep(5)  # events are written behind
    done = len(names) - 2
    grown = (_size(database) - before) / done
    own = sum(spent) / params.compute.workers
    print(f"{done} chunks of {per_chunk} images in {seconds:.1f} s; the dummy's own {own:.1f} s")
    print(f"overhead per chunk: {1000 * (seconds - own) / done:.1f} ms on {params.compute.workers} threads")
    print("server's resident memory, MiB:", " ".join(f"{m:.0f}" for m in memory))
    print(f"database: {grown / 1024:.1f} KiB per chunk")


def _size(database: Path) -> int:
    return sum(p.stat().st_size for p in database.parent.glob(f"{database.name}*"))


if __name__ == "__main__":
    main()
