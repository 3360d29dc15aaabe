"""What do moves of training images cost? Their power on real images, and a generator trained on under either kind.

    python -m benchmarks.moves power --cases CASES
    python -m benchmarks.moves train --cases CASES --generator FOLDER --moves whole --steps 600 --out FOLDER
    python -m benchmarks.moves train ... --black -1.0 --seed 200                       # black beside the darkest grey

`interpolated` are the moves of before (scaled by up to 6 %, shifted by parts of a pixel), `whole` those of now. `power`
prints what is left of the power of training images in bands of frequency. `train` goes on from a generator's averaged
weights with a new optimiser, on the same batches, noise and times under both; `benchmarks.ablation` asks and measures
what it writes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.packed import unpack
from fetalflex.dataset import Cases
from fetalflex.diffusion.train import Batches, Objective
from fetalflex.model import denoiser as pixels
from fetalflex.model.batches import Moves, Pictures, step_random
from fetalflex.model.checkpoint import Ema
from fetalflex.model.generator import Generator
from fetalflex.model.loop import Loop, Plan, training_precision
from fetalflex.params import Train

MOVES = {"interpolated": Moves(flip=0.5, scale=0.06, shift=0.03), "whole": Moves(flip=0.5, shift=0.03)}
BAND, SEED, RATE, WARMUP, EMA = 4, 100, 2e-4, 50, 0.995


def band_power(images: np.ndarray) -> np.ndarray:
    """Return the mean power of images [N, S, S] in bands of BAND cycles per image, under a Hann window."""
    size = images.shape[-1]
    cycles = np.fft.fftfreq(size) * size
    radius, window = np.hypot(cycles[:, None], cycles[None]), np.outer(np.hanning(size), np.hanning(size))
    centred = images.astype(float) - images.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred * window)) ** 2).mean(0)
    return np.array([power[(radius >= low) & (radius < low + BAND)].mean() for low in range(0, size // 2, BAND)])


def print_power(cases: Cases) -> None:
    """Print the power of moved training images over that of the images themselves."""
    before = band_power(cases.images)
    print(f"{len(cases)} images; bands of {BAND} cycles per image from 0 on, power over that of the image as it is")
    for name, moves in MOVES.items():
        moved, _, _ = Pictures(cases, moves).draw(np.arange(len(cases)), step_random(SEED, "power"))
        print(f"{name}: {np.round(band_power((moved[:, 0].numpy() + 1) * 127.5) / before, 2)}")


def train_on(generator: Generator, cases: Cases, steps: int, moves: Moves, seed: int = SEED) -> Generator:
    """Return the generator after further steps of 8 images, which the seed draws."""
    denoiser, params = generator.denoiser.train(), Train(steps=steps)
    objective, batches = Objective(denoiser), Batches(cases, generator.vocabulary, params, seed, denoiser)
    batches.pictures = Pictures(cases, moves)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema, losses = Ema(denoiser, EMA), []
    loop = Loop(denoiser, optimizer, Plan(steps, RATE, WARMUP, steps, ""), ema)
    for step in loop.remaining():
        with torch.autocast("cpu", torch.bfloat16, enabled=training_precision("auto", "cpu") == "bf16"):
            loss = objective(batches.draw(step))
        loop.update(step, loss)
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0 or loop.is_last(step):
            print(f"step {step + 1} of {steps}, mean loss of the last hundred {np.mean(losses[-100:]):.4f}", flush=True)
    ema.copy_to(denoiser)
    return Generator(denoiser.eval(), generator.vocabulary, generator.size, generator.digest, generator.sectors)


def main() -> None:
    """Print the power, or train on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("power", "train"))
    parser.add_argument("--cases", type=Path, required=True, help="packed cases; their group train is used")
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--moves", choices=tuple(MOVES), default="whole")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--black", type=float, default=pixels.BLACK, help="where black lies; -1: beside the greys")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = (unpack(args.cases) if args.cases.suffix == ".zip" else Cases.load(args.cases)).of_group("train")
    if args.what == "power":
        print_power(cases)
        return
    if args.generator is None or args.out is None:
        parser.error("train needs --generator and --out")
    pixels.BLACK = args.black
    train_on(Generator.load(args.generator), cases, args.steps, MOVES[args.moves], args.seed).save(args.out)


if __name__ == "__main__":
    main()
