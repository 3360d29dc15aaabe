"""Mutated DICOM files through ingest's own workers: each must end decoded or in a named quarantine.

`python benchmarks/fuzz.py --count 10000 --seed 0`. Exit code 1 where a file ends otherwise, a file takes longer than
its limits, or a process passes one gibibyte. The main process parses nothing, so its own end would be the crash.
"""

import argparse
import json
import logging
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.mutations import mutate, write_bases
from fetalflex.deid.keys import DEMO_KEY, PseudonymKey
from fetalflex.dicom.sandbox import Sandbox
from fetalflex.errors import QuarantineError, Reason
from fetalflex.ingest import worker
from fetalflex.ingest.bucket import PRELOAD
from fetalflex.params import Center

HANG_S = 700.0  # a file's own limit is 300 s of a processor, in a worker and at most once more in a fresh one
CENTER = Center(title="Mutated files", licence="none", planes={"brain": "brain"}).model_dump(mode="json")


def read_one(sandbox: Sandbox, path: Path) -> Counter[str]:
    """Return how one file ended, as ingest would have it: "decoded", or reasons (of a frame: "frame: reason")."""
    ends: Counter[str] = Counter()
    try:
        ((facts, _),) = sandbox.run(worker.inspect, path=str(path))
        if facts["kind"] == "annotation":
            for uid in facts["references"][:1] or ["1.2.3"]:
                items = list(sandbox.run(worker.annotations, path=str(path), image_uid=uid))
                ends["decoded" if items else "nothing"] += 1
            return ends
        for said, _ in sandbox.run(worker.frames, path=str(path), name="fuzz", center=CENTER, max_side_px=512):
            ends[f"frame: {Reason(said['quarantine'][0])}" if "quarantine" in said else "decoded"] += 1
    except QuarantineError as error:
        ends = Counter({error.reason.value: 1})
    return ends


def verdict(ends: Counter[str]) -> str:
    """Return one word for a file: its worst end."""
    if not ends:
        return "nothing"
    return next((name for name in sorted(ends) if name != "decoded"), "decoded")


@dataclass
class Tally:
    """How files ended: counts by end, the slowest (s, which), what ended otherwise, and the time that mutating took."""

    ends: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    odd: list[str] = field(default_factory=list)
    making_s: float = 0.0

    def add(self, other: "Tally") -> None:
        """Take another thread's files in."""
        self.ends += other.ends
        self.slowest = max(self.slowest, other.slowest)
        self.odd += other.odd
        self.making_s += other.making_s


def fuzz(count: int, seed: int, *, first: int = 0, threads: int = 1, progress: bool = False) -> dict[str, Any]:
    """Return the counts by end, the slowest file, the peak memory of any process and what ended otherwise.

    `threads`: each has a worker of its own, as ingest's chunks have, and takes every n-th file.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
    total, began = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fetalflex-fuzz-") as folder:
        bases = [p.read_bytes() for p in write_bases(Path(folder))]
        parts = [range(first + thread, first + count, threads) for thread in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            for tally in pool.map(lambda part: _fuzz_some(bases, seed, part, Path(folder), progress), parts):
                total.add(tally)
    peaks = {name: resource.getrusage(who).ru_maxrss // 1024 for name, who in
             (("main", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN))}  # fmt: skip
    return {
        "files": count, "seed": seed, "bases": len(bases), "threads": threads, "ends": dict(total.ends.most_common()),
        "odd": total.odd, "seconds": round(time.monotonic() - began, 1), "of which mutating": round(total.making_s, 1),
        "slowest": f"{total.slowest[0]:.1f} s, file {total.slowest[1]}", "peak_mib": peaks,
    }  # fmt: skip


def _fuzz_some(bases: list[bytes], seed: int, numbers: range, folder: Path, progress: bool) -> Tally:
    """Mutate and read some files in one thread."""
    tally, path, began = Tally(), folder / f"mutated-{numbers.start}.dcm", time.monotonic()
    with Sandbox(key=KEY, preload=PRELOAD) as sandbox:
        for done, number in enumerate(numbers, 1):
            start = time.monotonic()
            data, names = mutate(bases, seed, number)
            path.write_bytes(data)
            made = time.monotonic()
            end = verdict(read_one(sandbox, path))
            tally.ends[end] += 1
            tally.making_s += made - start
            took = time.monotonic() - made
            tally.slowest = max(tally.slowest, (took, f"{number} ({names}): {end}"))
            if end == "nothing" or took > HANG_S:
                tally.odd.append(f"{number} ({names}): {end}, {took:.1f} s")
            if progress and not done % 250:
                print(done, f"{time.monotonic() - began:.0f} s", dict(tally.ends.most_common(4)), flush=True)
    return tally


KEY = PseudonymKey(DEMO_KEY, "the fuzzer")


def main() -> int:
    """Run and print the result as JSON; 1 where it is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to see one again")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    result = fuzz(arguments.count, arguments.seed, first=arguments.first, threads=arguments.threads, progress=True)
    print(json.dumps(result, indent=1))
    return int(bool(result["odd"]) or max(result["peak_mib"].values()) > 1024)


if __name__ == "__main__":
    sys.exit(main())
