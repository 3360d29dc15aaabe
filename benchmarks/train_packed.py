"""Train aligner and generator on packed cases, on a bare machine, in as many runs of limited length as it takes.

    python -m benchmarks.train_packed --cases CASES.npz --preset base --out DIR --seconds 520
    accelerate launch --num_processes 4 -m benchmarks.train_packed ...

The machine needs torch, diffusers, accelerate, pydantic and ruamel.yaml, no Prefect, DVC, MLflow or polars. A run that
is out of time leaves checkpoints under DIR/state, and the same command goes on from there. At the end DIR/aligner and
DIR/generator hold the models in files of at most 16 MB. Several processes share the denoiser's batches; the aligner
is trained by one, before.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from ruamel.yaml import YAML

from fetalflex.dataset import Cases
from fetalflex.diffusion.train import Run, train_generator
from fetalflex.model.loop import Where
from fetalflex.model.prealign import Aligner, train_aligner
from fetalflex.params import Params, parse, preset_text

MAIN, SEVERAL = os.environ.get("RANK", "0") == "0", int(os.environ.get("WORLD_SIZE", "1")) > 1


def read(args: argparse.Namespace) -> Params:
    """Return the preset's parameters with what `--set section.key=value` changes."""
    values = YAML(typ="safe", pure=True).load(preset_text(args.preset))
    for item in args.set:
        name, _, value = item.partition("=")
        section, _, key = name.partition(".")
        values[section][key] = YAML(typ="safe", pure=True).load(value)
    return parse(values, Params, args.preset)


def drive(steps: Iterable, label: str, total: int, until: float, every: int, out: Path):
    """Run a training until it is done or no further stretch between checkpoints fits; return what was trained, or None.

    It stops right after a checkpoint, so that nothing is computed twice.
    """
    started, stretch = time.monotonic(), 0.0
    with (out / f"{label}.jsonl" if MAIN else Path(os.devnull)).open("a") as curve:
        for step in steps:
            if math.isfinite(step.loss):
                curve.write(json.dumps({"step": step.step, "loss": step.loss}) + "\n")
            if step.trained is not None:
                return step.trained
            if step.step % every == 0:
                now = time.monotonic()
                stretch, started = max(stretch, now - started), now
                print(f"{label}: step {step.step} of {total}, loss {step.loss:.4f}", flush=True)
                if now + stretch > until:
                    return None
    return None


def main() -> None:
    """Train as far as the time goes."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True, help="packed cases (Cases.save); its group train is used")
    parser.add_argument("--preset", default="base")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the preset, section.key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=math.inf, help="how long this run may take")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="instead of the preset's")
    parser.add_argument("--align-only", action="store_true", help="stop when the aligner is trained")
    args = parser.parse_args()
    params, until = read(args), begun + args.seconds
    device = args.device or params.compute.device
    torch.backends.cuda.matmul.allow_tf32 = True
    args.out.mkdir(parents=True, exist_ok=True)
    cases, state = Cases.load(args.cases).of_group("train"), args.out / "state"
    if cases.size != params.data.image_size:
        raise SystemExit(
            f"{args.cases}: cases of {cases.size} px; expected {params.data.image_size}, as the preset says"
        )
    threads, seed = params.compute.train_threads, params.data.seed
    if not (args.out / "aligner" / "config.json").is_file():
        if SEVERAL:
            raise SystemExit("no aligner yet: run the same command once without accelerate launch, with --align-only")
        where = Where(state / "prealign", threads, device)
        steps = train_aligner(cases, params.prealign, params.train.patch, seed, where)
        aligner = drive(steps, "prealign", params.prealign.steps, until, params.prealign.checkpoint_every, args.out)
        if aligner is None:
            raise SystemExit("out of time: run the same command again")
        aligner.to("cpu").save(args.out / "aligner")
    if args.align_only:
        return
    run = Run(seed, state / "train", threads, device)
    steps = train_generator(cases, Aligner.load(args.out / "aligner"), params.train, run)
    generator = drive(steps, "train", params.train.steps, until, params.train.checkpoint_every, args.out)
    if generator is None:
        raise SystemExit("out of time: run the same command again")
    if MAIN:
        generator.save(args.out / "generator")
    print(f"{args.out / 'generator'}: {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
