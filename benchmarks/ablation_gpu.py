"""The trainings of `benchmarks.ablation` side by side on one GPU, as long as the time allows.

    python -m benchmarks.ablation_gpu WORKSPACE --cases CASES.zip --out DIR --seconds 480 --set train.batch_size=64

First as many processes as there will be trainings measure what a step of alignment and one of training cost there, all
at once; from that follow the steps of both arms, at equal time. Then every training runs in a process of its own, and
samples. DIR/plan.json, DIR/ARM-SEED/images*.npz are what `benchmarks.ablation` reads on any other machine, to measure
(same parameters, printed at the start); DIR/packed holds them and the weights (bf16) in files that travel.
"""

import argparse
import json
import math
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.ablation import ARMS
from benchmarks.packed import unpack
from benchmarks.train_packed import read
from fetalflex.artifacts import write_json
from fetalflex.dataset import Cases
from fetalflex.diffusion.train import Run, train_generator
from fetalflex.model.loop import Where
from fetalflex.model.prealign import new_aligner, train_aligner
from fetalflex.params import Params

WARM, TIMED, MARGIN = 8, 24, 1.05
# Two stages with the whole budget; from the same noise one stage of as many evaluations, of 12, of 12 without guidance,
# of 12 for boxes, of many.
SAMPLE = {"agreement": 1.0, "batch_size": 60}
VARIANTS = {
    "one": {"coarse_steps": 20, "agreement": 0.0},
    "twelve": {"agreement": 0.0},
    "guidance1": {"guidance": 1.0, "agreement": 0.0},
    "boxes": {"agreement": 0.0},
    "steps200": {"coarse_steps": 200, "budget": 200, "agreement": 0.0},
}


def probe(cases: Cases, params: Params, device: str) -> dict[str, float]:
    """Return the seconds per step of alignment and of training."""
    aligner = new_aligner(cases, params.prealign, params.train.patch, 0)
    long = {"steps": 10**6, "checkpoint_every": 10**6}
    prealign, train = params.prealign.model_copy(update=long), params.train.model_copy(update=long)
    where, run = Where(None, 1, device), Run(0, None, 1, device)
    found = {}
    for name, steps in (
        ("align", train_aligner(cases, prealign, train.patch, 0, where)),
        ("train", train_generator(cases, aligner, train, run)),
    ):
        for _ in range(WARM):
            next(steps)
        start = time.perf_counter()
        for _ in range(TIMED):
            next(steps)  # each ends with figures of the device: nothing is left to wait for
        found[name] = (time.perf_counter() - start) / TIMED
        steps.close()
    return found


def sections(params: Params, steps: int) -> list[str]:
    """Return the arguments of `benchmarks.ablation` that stand for these parameters."""
    train, prealign = params.train.model_dump(mode="json"), params.prealign.model_dump(mode="json")
    asked = {name: {**SAMPLE, **changes} for name, changes in VARIANTS.items()}
    return [
        "--steps", str(steps), "--prealign-steps", str(params.prealign.steps), "--channels",
        *map(str, params.train.channels), "--train", _different(train, ("steps", "channels")), "--prealign",
        _different(prealign, ("steps",)), "--sample", json.dumps(SAMPLE),
        *(item for name, how in asked.items() for item in ("--variant", f"{name}={json.dumps(how)}")),
    ]  # fmt: skip


def _different(values: dict, without: tuple[str, ...]) -> str:
    return json.dumps({k: v for k, v in values.items() if k not in without})


def half(folder: Path, path: Path) -> None:
    """Write a generator's folder as one zip, weights in bf16."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            kept = file
            if file.suffix == ".safetensors":
                kept = path.with_suffix(".safetensors")
                save_file({k: v.to(torch.bfloat16).contiguous() for k, v in load_file(file).items()}, kept)
            archive.write(kept, file.relative_to(folder))
    path.with_suffix(".safetensors").unlink(missing_ok=True)


def main() -> None:
    """Measure, plan, train, sample, pack."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--reserve", type=float, default=110, help="of these, for start, sampling and packing")
    parser.add_argument("--most-steps", type=int, default=10**9)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--preset", default="cpu64")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the preset, section.key=value")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--probe", action="store_true", help="measure steps alone (a process of its own)")
    args = parser.parse_args()
    params, cases = read(args), unpack(args.cases).of_group("train")
    if args.probe:
        print(json.dumps(probe(cases, params, args.device)))
        return
    packed = args.out / "packed"
    packed.mkdir(parents=True, exist_ok=True)
    trainings = [(arm, seed) for seed in args.seeds for arm in ARMS]
    command = [sys.executable, "-m", "benchmarks.ablation_gpu", *sys.argv[1:], "--probe"]
    probes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in trainings]
    costs = [json.loads(p.communicate()[0].strip().splitlines()[-1]) for p in probes]
    step, align = (float(np.median([c[k] for c in costs])) for k in ("train", "align"))
    left = args.seconds - args.reserve - (time.monotonic() - begun)
    further = math.ceil(align / step * params.prealign.steps)
    steps = min(args.most_steps, max(1, int(left / (step * MARGIN)) - further))
    print(f"{time.monotonic() - begun:.0f} s: {len(trainings)} side by side take {1000 * step:.0f} ms a step, of "
          f"alignment {1000 * align:.0f} ms; {steps} steps with it, {steps + further} without", flush=True)  # fmt: skip
    params = params.model_copy(
        update={"train": params.train.model_copy(update={"steps": steps, "checkpoint_every": 10**6})}
    )
    told = {"prealign": params.prealign.model_dump(mode="json"), "train": params.train.model_dump(mode="json")}
    write_json(args.out / "plan.json", {**told, "cases": len(cases), "ratio": align / step, "further_steps": further})
    common = [
        "benchmarks.ablation", str(args.workspace), "--cases", str(args.cases), "--images", str(args.images),
        *sections(params, steps),
    ]  # fmt: skip
    (packed / "command.json").write_text(json.dumps(common))
    running = [
        subprocess.Popen([
            sys.executable, "-m", *common, "--out", str(args.out), "--train-only", "--device", args.device,
            "--seeds", str(seed), "--arms", arm,
        ])
        for arm, seed in trainings
    ]  # fmt: skip
    codes = [p.wait() for p in running]
    print(f"{time.monotonic() - begun:.0f} s: trainings ended with {codes}", flush=True)
    with zipfile.ZipFile(packed / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        for file in [args.out / "plan.json", *sorted(args.out.glob("*/images*.npz"))]:
            archive.write(file, file.relative_to(args.out))
    for arm, seed in sorted(trainings, key=lambda t: (t[0] != "with", t[1]))[:4]:
        if (args.out / f"{arm}-{seed}" / "generator").is_dir():
            half(args.out / f"{arm}-{seed}" / "generator", packed / f"{arm}-{seed}.zip")
    print(f"{time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
