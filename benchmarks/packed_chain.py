"""The whole chain on packed cases, on a bare machine with one GPU, in a given time: segmenters to sampled images.

    python -m benchmarks.packed_chain --cases CASES.zip --abnormal WIDE.zip --preset base --out DIR --seconds 560

Guide and judge are trained side by side; the guide fills in what no expert drew; aligner and denoiser follow; then
the arms of `benchmarks.packed_arms` are sampled by several processes. Everything is written under DIR as soon as it is
there: weights in bf16 in files of at most 16 MB, segmenters, images as one zip, `log.json` with times and speeds.
`--abnormal`: scenes of the phantom that the judge alone learns from, so that it can measure what no normal shows.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.packed import join, pack, unpack
from benchmarks.train_packed import read
from fetalflex.anatomy.ontology import structure_index
from fetalflex.dataset import ABSENT, EXPERT, PREDICTED, Cases
from fetalflex.diffusion.train import Batches, Objective, Run, new_backbone, train_generator
from fetalflex.masks.segmenter import Segmenter, SegmenterRun, predicted_structures, train_segmenter
from fetalflex.masks.widening import with_widened
from fetalflex.model.generator import Generator
from fetalflex.model.loop import Where, training_precision
from fetalflex.model.prealign import Aligner, train_aligner
from fetalflex.params import Params

MODULE, STARTED, LOG = "benchmarks.packed_chain", time.monotonic(), {}
FILE_BYTES = 15_500_000


def told(name: str, value: Any, out: Path | None = None) -> None:
    """Print and keep a figure, with the seconds since the start."""
    LOG[name] = value
    print(f"[{time.monotonic() - STARTED:6.1f} s] {name}: {value}", flush=True)
    if out is not None:
        (out / "log.json").write_text(json.dumps(LOG, indent=1) + "\n")


def run_to_end(steps: Iterable[Any], label: str, every: int = 500) -> Any:
    """Run a training; return what was trained."""
    trained = None
    for step in steps:
        trained = step.trained
        if step.step % every == 0:
            told(label, f"step {step.step}, loss {step.loss:.4f}")
    return trained


def segmenter(role: str, cases: Cases, abnormal: Cases | None, params: Params, device: str) -> Segmenter:
    """Train guide or judge on its own group, with widened ventricles painted into copies."""
    own = cases.of_group({"guide": "train", "judge": "judge"}[role])
    own = own.take((own.sources == EXPERT).any(1))
    own = with_widened(own, 1.0, params.data.seed)
    if role == "judge" and abnormal is not None:
        own = join([own, abnormal.of_group("judge")])
    told(f"{role}: cases", len(own))
    run = SegmenterRun(role, params.data.seed, None, params.compute.train_threads, device)
    return run_to_end(train_segmenter(own, params.masks, run), role).to("cpu")


def filled(cases: Cases, guide: Segmenter, min_confidence: float) -> Cases:
    """Return the cases with the structures that the guide finds where no expert drew them."""
    masks, sources, confidences = cases.masks.copy(), cases.sources.copy(), cases.confidences.copy()
    open_ = np.flatnonzero(cases.groups == "train")
    for start in range(0, len(open_), 64):
        part = open_[start : start + 64]
        for item in predicted_structures(guide.predict(cases.images[part]), cases.planes[part], min_confidence):
            i, k = part[item.image], structure_index(item.structure)
            shown = item.mask & cases.valid[i]
            if sources[i, k] == ABSENT and shown.any():
                masks[i, k], sources[i, k], confidences[i, k] = shown, PREDICTED, item.confidence
    return replace(cases, masks=masks, sources=sources, confidences=confidences)


def probe(cases: Cases, aligner: Aligner, params: Params, device: str) -> dict[str, float]:
    """Return seconds per step: the bare forward and backward pass in both memory formats, and whole training."""
    found: dict[str, float] = {}
    train = params.train.model_copy(update={"steps": 10**6, "checkpoint_every": 10**6})
    for name, layout in (("bare", torch.contiguous_format), ("bare, channels last", torch.channels_last)):
        denoiser, _ = new_backbone(cases.size, aligner, train, 0)
        denoiser.to(device).to(memory_format=layout)
        objective = Objective(denoiser)
        batch = Batches(cases, aligner.vocabulary, train, 0, denoiser, device).draw(0)

        def once(objective: Objective = objective, batch: Any = batch) -> None:
            with torch.autocast(device, torch.bfloat16, enabled=training_precision(train.precision, device) == "bf16"):
                loss = objective(batch)
            loss.backward()
            objective.zero_grad()

        found[name] = seconds_per(once, device)
        del denoiser, objective, batch
    for name, last in (("training", False), ("training, channels last", True)):
        steps = train_generator(cases, aligner, train, Run(0, None, params.compute.train_threads, device, last))
        found[name] = seconds_per(lambda steps=steps: next(steps), device)
        steps.close()
    return found


def seconds_per(step: Any, device: str, rounds: int = 12) -> float:
    """Return the seconds per call, after a few to warm up."""
    for _ in range(4):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / rounds


def save_half(generator: Generator, folder: Path) -> None:
    """Write a generator's weights in bf16, in files that fit."""
    state = {k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in generator.denoiser.state_dict().items()}
    part: dict[str, torch.Tensor] = {}
    number, size = 0, 0
    for name, value in state.items():
        if part and size + value.numel() * 2 > FILE_BYTES:
            save_file(part, folder / f"weights-{number}.safetensors")
            part, number, size = {}, number + 1, 0
        part[name], size = value, size + value.numel() * 2
    save_file(part, folder / f"weights-{number}.safetensors")


def small_files(folders: Iterable[Path], path: Path) -> None:
    """Zip the files of these folders that are small: configurations and segmenters."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and (folder.name in ("guide", "judge") or file.suffix == ".json"):
                    archive.write(file, f"{folder.name}/{file.relative_to(folder)}")


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--abnormal", type=Path)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True, help="what is to be kept")
    parser.add_argument("--work", type=Path, default=Path("packed-chain"), help="what is not")
    parser.add_argument("--seconds", type=float, required=True, help="from the start to the end")
    parser.add_argument("--reserve", type=float, default=150, help="of these, for sampling")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--most-steps", type=int, default=10**9)
    parser.add_argument("--processes", type=int, default=6, help="that sample")
    parser.add_argument("--only", choices=("judge",), help="train this alone (a process of its own)")
    return parser.parse_args()


def main() -> None:
    """Do as much as the time allows."""
    args = arguments()
    params = read(args)
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    cases = unpack(args.cases)
    abnormal = unpack(args.abnormal) if args.abnormal else None
    if args.only == "judge":
        segmenter("judge", cases, abnormal, params, args.device).save(args.work / "judge")
        return
    told("cases", {g: int((cases.groups == g).sum()) for g in ("train", "judge", "test")}, args.out)
    judge = subprocess.Popen([sys.executable, "-m", MODULE, *sys.argv[1:], "--only", "judge"])
    guide = segmenter("guide", cases, None, params, args.device)
    guide.save(args.work / "guide")
    cases = filled(cases, guide.to(args.device), params.masks.min_confidence)
    told("filled", {k: int((cases.sources == v).sum()) for k, v in (("expert", EXPERT), ("predicted", PREDICTED))})
    pack(cases.of_group("test"), args.work / "test.zip")
    training, seed = cases.of_group("train"), params.data.seed
    where = Where(None, params.compute.train_threads, args.device)
    aligner: Aligner = run_to_end(train_aligner(training, params.prealign, params.train.patch, seed, where), "prealign")
    aligner.to("cpu")
    if judge.wait():
        raise SystemExit("the judge's training failed")
    told("seconds to the aligner", round(time.monotonic() - STARTED, 1), args.out)
    speed = probe(training, aligner, params, args.device)
    told("seconds per step", {k: round(v, 4) for k, v in speed.items()}, args.out)
    last = speed["training, channels last"] < speed["training"]
    step = min(speed["training"], speed["training, channels last"])
    left = args.seconds - args.reserve - (time.monotonic() - STARTED)
    count = max(1, min(args.most_steps, int(left / step / 1.03)))
    told("training steps", count, args.out)
    train = params.train.model_copy(update={"steps": count, "checkpoint_every": 10**9})
    run = Run(seed, None, params.compute.train_threads, args.device, last)
    generator: Generator = run_to_end(train_generator(training, aligner, train, run), "train")
    generator.denoiser.to("cpu").to(memory_format=torch.contiguous_format)
    save_half(generator, args.out)
    generator.save(args.work / "generator")
    small_files([args.work / n for n in ("generator", "guide", "judge")], args.out / "models.zip")
    told("seconds to the generator", round(time.monotonic() - STARTED, 1), args.out)
    command = [sys.executable, "-m", "benchmarks.packed_arms", "--work", str(args.work), "--preset", args.preset]
    command += ["--device", args.device, "--set", *args.set]
    shares = [subprocess.Popen([*command, "--share", f"{i}/{args.processes}"]) for i in range(args.processes)]
    codes = [p.wait() for p in shares]
    told("sampling processes ended with", codes, args.out)
    with zipfile.ZipFile(args.out / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(itertools.chain((args.work / "arms").rglob("*.webp"), (args.work / "arms").rglob("*.json"))):
            archive.write(file, file.relative_to(args.work / "arms"))
    told("seconds", round(time.monotonic() - STARTED, 1), args.out)


if __name__ == "__main__":
    main()
