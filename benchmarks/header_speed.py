"""Header cleaning per second, ours against `deid`'s, on the same files in the same process, by turns.

`python -m benchmarks.header_speed --help`. Needs `deid` importable beside FetalFlex. Both get a data set that was read
(header and pixels as bytes) and clean its header in memory; nothing is decoded or written. `deid` runs
`replace_identifiers` with its default recipe and removes private attributes. One core: set OMP_NUM_THREADS=1.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import Dataset

from benchmarks.planted import KEY, phantom_files, readable, real_files
from fetalflex.deid.header import clean_header
from fetalflex.deid.keys import PseudonymKey
from fetalflex.params import Deidentify

LEAST_RATIO = 5.0


def ours(data: Dataset) -> None:
    """Clean one header as `fetalflex deidentify` does."""
    clean_header(data, Deidentify(), "speed", PseudonymKey(KEY, "the benchmark"))


def theirs() -> Callable[[Dataset], None]:
    """Return deid's header cleaning with its default recipe, read once."""
    from deid.config import DeidRecipe
    from deid.dicom import replace_identifiers
    from deid.logger import bot

    bot.level = 0
    recipe = DeidRecipe()
    return lambda data: replace_identifiers([data], deid=recipe, save=False, remove_private=True)


def seconds(clean: Callable[[Dataset], None], paths: list[Path]) -> float:
    """Return the processor seconds of cleaning all files, reading left out."""
    total = 0.0
    for path in paths:
        data = readable(path)
        start = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            clean(data)
        total += time.process_time() - start
    return total


def measure(paths: list[Path], rounds: int) -> dict[str, Any]:
    """Return files per second of both, the median of `rounds` turns each, after one that warms up."""
    tools = {"fetalflex": ours, "deid": theirs()}
    taken: dict[str, list[float]] = {name: [] for name in tools}
    for turn in range(rounds + 1):
        for name, clean in tools.items():
            spent = seconds(clean, paths)
            if turn:
                taken[name].append(spent)
    rates = {name: len(paths) / statistics.median(values) for name, values in taken.items()}
    ratios = [b / a for a, b in zip(taken["fetalflex"], taken["deid"], strict=True)]
    return {
        "files": len(paths),
        "rounds": rounds,
        "per_second": rates,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def main() -> int:
    """Measure and print; exit code 1 below the aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=24, help="phantom images")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        phantoms = [p for p in phantom_files(Path(name), arguments.phantoms) if p.name.startswith("IM")]
        figures = {"phantom": measure(phantoms, arguments.rounds)}
        if real_files():
            figures["us_dicom"] = measure(real_files(), arguments.rounds)
    print(json.dumps(figures, indent=1))
    return 0 if min(f["ratio"] for f in figures.values()) >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
