"""How fast is training beside a bare loop, and what costs most? One run, both sides by turns.

    python -m benchmarks.training --cases CASES.npz [--preset cpu64] [--rounds 8] [--device cuda] [--set train.steps=9]

`training` is `train_generator` as it is: batches drawn and augmented, conditions dropped, clipping, AdamW, EMA.
`bare` calls the same networks in the same precision, forward and backward, on one batch of tensors in memory, and
does nothing else. Seconds are the processor's on a CPU (which others may use, too), the clock's on a GPU; the ratio
is the median over the rounds of bare / training, each measured one after the other.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.packed import unpack
from benchmarks.train_packed import read
from fetalflex.dataset import Cases
from fetalflex.diffusion import train as training
from fetalflex.diffusion.train import Batches, Objective, Run, new_backbone, train_generator
from fetalflex.model import loop
from fetalflex.model.loop import training_precision
from fetalflex.model.prealign import new_aligner
from fetalflex.params import Train

STEPS = 4


def bare_loop(cases: Cases, aligner, params: Train, device: str):
    """Return a function that takes one forward and backward pass on one batch in memory."""
    denoiser, _ = new_backbone(cases.size, aligner, params, 0)
    denoiser.to(device)
    batch = Batches(cases, aligner.vocabulary, params, 0, denoiser, device).draw(0)
    objective = Objective(denoiser)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=training_precision(params.precision, device) == "bf16"):
            loss = objective(batch)
        loss.backward()
        objective.zero_grad()

    return step


def timed(step, device: str) -> float:
    """Return the seconds per step of a few steps."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    wait()
    start = clock()
    for _ in range(STEPS):
        step()
    wait()
    return (clock() - start) / STEPS


def costs(step, rounds: int, device: str) -> list[tuple[str, float, float]]:
    """Return parts of a training step and the share of its time that the CPU and the GPU take for each."""
    marks = {
        "batch: draw and augment": (training.Pictures, "draw"),
        "batch: conditions": (training.Described, "at"),
        "batch: drop conditions": (training, "drop_conditions"),
        "forward": (training.Objective, "__call__"),
        "clip the gradient": (loop.nn.utils, "clip_grad_norm_"),
        "average the weights": (loop.Ema, "update"),
        "backward": (Accelerator, "backward"),
        "optimiser": (torch.optim.AdamW, "step"),
    }
    kept = {name: getattr(*place) for name, place in marks.items()}

    def marked(name: str):
        def call(*args, **more):
            with record_function(f"part:{name}"):
                return kept[name](*args, **more)

        return call

    for name, (owner, attribute) in marks.items():
        setattr(owner, attribute, marked(name))
    try:
        gpu = [ProfilerActivity.CUDA] if device == "cuda" else []
        with profile(activities=[ProfilerActivity.CPU, *gpu]) as found:
            start = time.perf_counter()
            for _ in range(rounds):
                step()
            if gpu:
                torch.cuda.synchronize()
            total = time.perf_counter() - start
    finally:
        for name, (owner, attribute) in marks.items():
            setattr(owner, attribute, kept[name])
    parts = [e for e in found.key_averages() if e.key.startswith("part:") and e.cpu_time_total]
    shares = [
        (e.key.removeprefix("part:"), e.cpu_time_total / 1e6 / total, e.device_time_total / 1e6 / total) for e in parts
    ]
    return sorted(shares, key=lambda x: -max(x[1:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True, help="packed cases: Cases.save or a zip")
    parser.add_argument("--preset", default="cpu64")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--set", nargs="*", default=[], help="changes of the preset, section.key=value")
    args = parser.parse_args()
    cases = (unpack(args.cases) if args.cases.suffix == ".zip" else Cases.load(args.cases)).of_group("train")
    whole = read(args)
    params: Train = whole.train.model_copy(update={"steps": 10**6})
    aligner = new_aligner(cases, whole.prealign, params.patch, 0)
    steps = train_generator(cases, aligner, params, Run(0, threads=args.threads, device=args.device))
    bare = bare_loop(cases, aligner, params, args.device)
    sides = {"training": lambda: next(steps), "bare": bare}
    for step in sides.values():
        timed(step, args.device)  # warm
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(args.rounds):
        for name in sorted(sides, reverse=bool(turn % 2)):
            spent[name].append(timed(sides[name], args.device))
    ratios = np.array(spent["bare"]) / np.array(spent["training"])
    precision = training_precision(params.precision, args.device)
    print(f"{args.preset}: batch {params.batch_size} of {cases.size} px, {precision}, threads {args.threads}")
    print(f"seconds per step, median: training {np.median(spent['training']):.3f}, bare {np.median(spent['bare']):.3f}")
    print(f"bare / training: {np.median(ratios):.3f} (rounds {ratios.min():.3f} to {ratios.max():.3f})")
    for name, own, gpu in costs(sides["training"], STEPS, args.device):
        print(f"{name}: {100 * own:.1f} % of a training step on the CPU, {100 * gpu:.1f} % on the GPU")


if __name__ == "__main__":
    main()
