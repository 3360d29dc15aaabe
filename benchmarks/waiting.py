"""How long should a training's threads spin while they wait for one another? Alone, and beside others' work.

    python -m benchmarks.waiting --cases CASES.npz [--preset cpu64] [--steps 12] [--rounds 3] [--beside 2]

Each measurement is a process of its own, with one `GOMP_SPINCOUNT` after the other (300000 is what GNU OpenMP does
untold): `train_generator` of the preset on two threads, the first three steps left out. `--beside`: so many processes
keep a core busy meanwhile.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WARM = 3
BUSY = "while True: pass"


def measure(args: argparse.Namespace) -> None:
    """Print seconds per step by the clock and of the processor: what a child process does."""
    from benchmarks.packed import unpack
    from benchmarks.train_packed import read
    from fetalflex.dataset import Cases
    from fetalflex.diffusion.train import Run, train_generator
    from fetalflex.model.prealign import new_aligner

    cases = (unpack(args.cases) if args.cases.suffix == ".zip" else Cases.load(args.cases)).of_group("train")
    whole = read(args)
    params = whole.train.model_copy(update={"steps": 10**6})
    steps = train_generator(
        cases, new_aligner(cases, whole.prealign, params.patch, 0), params, Run(0, threads=args.threads)
    )
    for _ in range(WARM):
        next(steps)
    start = time.perf_counter(), time.process_time()
    for _ in range(args.steps):
        next(steps)
    print((time.perf_counter() - start[0]) / args.steps, (time.process_time() - start[1]) / args.steps)


def one(spins: int) -> tuple[float, float]:
    """Return seconds per step, by the clock and of the processor, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.waiting", *sys.argv[1:], "--child"]
    environment = os.environ | {"GOMP_SPINCOUNT": str(spins)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    clock, processor = said.stdout.split()
    return float(clock), float(processor)


def main() -> None:
    """Measure by turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True, help="packed cases: Cases.save or a zip")
    parser.add_argument("--preset", default="cpu64")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the preset, section.key=value")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=int, default=0)
    parser.add_argument("--spins", type=int, nargs="*", default=[300000, 3000, 0], help="the first is the base")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args)
        return
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(args.beside)]
    spent: dict[int, list[tuple[float, float]]] = {spins: [] for spins in args.spins}
    try:
        for _ in range(args.rounds):
            for spins in args.spins:
                clock, processor = one(spins)
                spent[spins].append((clock, processor))
                print(f"{spins}: {clock:.3f} s a step, {processor:.3f} of a processor", flush=True)
    finally:
        for process in busy:
            process.kill()
    for spins in args.spins[1:]:
        ratios = np.array(spent[spins]) / np.array(spent[args.spins[0]])
        for name, each in zip(("by the clock", "of the processor"), ratios.T, strict=True):
            print(f"{spins} / {args.spins[0]}, {name}: {np.median(each):.2f} ({each.min():.2f} to {each.max():.2f})")


if __name__ == "__main__":
    main()
