"""Does LPIPS diversity see what a generator does wrong, beside MS-SSIM, and what does it cost?

    FETALFLEX_DATA=... python -m benchmarks.lpips --backbone folder:PATH [--size 64] [--count 120]

HC18's patients are cut in two: the images of one half stand for real ones, those of the other for synthetic ones, as
they are or with a fault. `--backbone` as in `score.lpips`. The floor is that of the clean images.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from fetalflex.dataset import to_canvas
from fetalflex.quality.fidelity.lpips import LpipsEncoder
from fetalflex.quality.fidelity.measure import Figure, Plan, figure
from fetalflex.quality.fidelity.measures import MS_SSIM, of_lpips
from fetalflex.quality.fidelity.sample import whole_patients
from fetalflex.quality.fidelity.sides import Side
from fetalflex.rng import generator
from fetalflex.sources.public import read_hc18

SEED, DRAWS = 2026, 500


def halves(data: Path, size: int, count: int) -> tuple[Side, Side]:
    """Return `count` images of either half of the patients on square canvases."""
    found = [(item.patient, item.path) for item in read_hc18(data / "hc18")]
    patients = np.array([patient for patient, _ in found])
    order = generator(SEED, "halves").permutation(np.unique(patients))
    first = np.isin(patients, order[: len(order) // 2])
    sides = []
    for chosen in (first, ~first):
        places = np.nonzero(chosen)[0]
        places = places[whole_patients(patients[places], count, generator(SEED, "count"))]
        images = np.stack([to_canvas(np.asarray(Image.open(found[p][1]).convert("L")), size) for p in places])
        text = np.full(len(places), "brain")
        sides.append(Side(images, {}, np.zeros((len(places), 0)), patients[places], text, text))
    return sides[0], sides[1]


def blurred(pixels: float) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussian blur of each image."""
    return lambda images: ndimage.gaussian_filter(images.astype(float), (0, pixels, pixels)).round().astype(np.uint8)


def noisy(levels: float) -> Callable[[np.ndarray], np.ndarray]:
    """White noise on each image."""

    def change(images: np.ndarray) -> np.ndarray:
        noise = generator(SEED, "noise").normal(0, levels, images.shape)
        return (images + noise).round().clip(0, 255).astype(np.uint8)

    return change


def repeated(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """The first image in place of a share of the images, evenly spread."""

    def change(images: np.ndarray) -> np.ndarray:
        places = np.linspace(0, len(images) - 1, round(share * len(images))).astype(int)
        changed = images.copy()
        changed[places] = images[0]
        return changed

    return change


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda images: images,
    "25 % one image": repeated(0.25),
    "50 % one image": repeated(0.5),
    "all one image": repeated(1.0),
    "blur 1 px": blurred(1.0),
    "blur 2 px": blurred(2.0),
    "noise, 10 levels": noisy(10),
    "noise, 30 levels": noisy(30),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--count", type=int, default=120)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    real, made = halves(Path(os.environ["FETALFLEX_DATA"]), asked.size, asked.count)
    encoder = LpipsEncoder(asked.backbone)
    print(f"{encoder.name}, {asked.size} px, {len(real)} and {len(made)} images", flush=True)
    print("| fault | `lpips_diversity` | `ms_ssim` |\n|---|---|---|")
    for name, change in FAULTS.items():
        side = Side(change(made.images), {}, made.looks, made.clusters, made.planes, made.centers)
        found = [figure(m, (real, side, None), Plan((), DRAWS, SEED)) for m in (of_lpips(encoder), MS_SSIM)]
        print(f"| {name} | {' | '.join(map(_told, found))} |", flush=True)
    floor = figure(of_lpips(encoder), (real, real, made), Plan((), DRAWS, SEED)).floor
    started = time.process_time()
    encoder.features(np.concatenate([made.images[:16], made.images[16:32]], axis=1))
    spent = (time.process_time() - started) / 16
    print(f"\nreal images against others: {floor:.3f}; {1000 * spent:.0f} ms of one core per pair")


def _told(found: Figure) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


if __name__ == "__main__":
    main()
