"""What scoring costs: features beside the encoders' own forward pass, and all figures of fidelity on many features.

    python -m benchmarks.quality_cost features --workspace WORKSPACE
    python -m benchmarks.quality_cost figures --images 50000
    OMP_NUM_THREADS=1 python -m benchmarks.quality_cost search --workspace WORKSPACE --images 1000

Wall time tells little on a shared machine, so the processor's seconds (user and system, all threads) stand beside it.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from fetalflex.dataset import patient_names
from fetalflex.params import Params
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.features.encoder import Encoder
from fetalflex.quality.features.registry import BATCH, open_encoder
from fetalflex.quality.fidelity.looks import LOOKS
from fetalflex.quality.fidelity.measure import Plan, figure
from fetalflex.quality.fidelity.measures import MS_SSIM, of_encoder, of_looks
from fetalflex.quality.fidelity.repeats import repeated
from fetalflex.quality.fidelity.sides import Side
from fetalflex.quality.privacy.nearest import Gallery, Search
from tasks.cases import read_cases

SIDE, WIDTH, PER_PATIENT = 64, 2048, 5
ENCODERS = ("inception", "aligner", "texture")


@dataclass
class Lap:
    """Seconds of a block."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def clock() -> Iterator[Lap]:
    """Yield what will hold the wall and processor seconds of the block."""
    lap, wall, cpu = Lap(), time.monotonic(), time.process_time()
    yield lap
    lap.wall, lap.cpu = time.monotonic() - wall, time.process_time() - cpu


def forward_only(encoder: Encoder, images: np.ndarray) -> None:
    """Make the encoder's forward passes alone, batch by batch, on tensors that are ready."""
    if hasattr(encoder, "_function"):
        size = encoder._batch
        x = torch.from_numpy(images)[:, None].float() / 127.5 - 1
        with torch.no_grad():
            for start in range(0, len(x), size):
                encoder._function(x[start : start + size])
    else:
        encoder.features(images)


def features(workspace: Path, count: int) -> None:
    """Print, per encoder, the processor's time for kept features over that of the forward passes, and again kept."""
    images = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE)).astype(np.uint8)
    for name in ENCODERS:
        encoder = open_encoder(name, workspace / "models" / "aligner")
        forward_only(encoder, images[:BATCH])
        turns = [_turn(encoder, images) for _ in range(3)]
        own, kept, again = (min(lap.cpu for lap in laps) for laps in zip(*turns, strict=True))
        print(f"{name}: own {own:.2f} s, kept {kept:.2f} s, x {kept / own:.3f}, again {again:.2f} s", flush=True)


def _turn(encoder: Encoder, images: np.ndarray) -> tuple[Lap, Lap, Lap]:
    """Return the times of the forward passes alone, of features that are kept, and of reading them again."""
    with tempfile.TemporaryDirectory() as folder:
        with clock() as own:
            forward_only(encoder, images)
        laps = []
        for expected in (len(images), 0):
            cached = CachedEncoder(encoder, Path(folder))
            with clock() as lap:
                for start in range(0, len(images), BATCH):
                    cached.features(images[start : start + BATCH])
            if cached.forwards != expected:
                raise SystemExit(f"{encoder.name}: {cached.forwards} forward passes, expected {expected}")
            laps.append(lap)
    return own, laps[0], laps[1]


def side(count: int, seed: int, shift: float) -> Side:
    """Return random features with a falling spectrum, five images a patient."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, WIDTH), dtype=np.float32)
    rows *= (1 / np.sqrt(1 + np.arange(WIDTH))).astype(np.float32)
    rows += np.float32(shift)
    looks = random.normal(size=(count, len(LOOKS)))
    patients = np.array([f"{seed}-{i // PER_PATIENT}" for i in range(count)])
    images = np.zeros((count, SIDE, SIDE), np.uint8)
    return Side(images, {"inception": rows}, looks, patients, np.full(count, "a"), np.full(count, "b"))


def figures(count: int, bootstrap: int) -> None:
    """Print the time of every figure on `count` images a side, with its floor, and the peak of memory."""
    torch.set_num_threads(2)
    sides = (side(count, 1, 0.0), side(count, 2, 0.01), side(count, 3, 0.0))
    held = sum(s.features["inception"].nbytes for s in sides) / 2**20
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    plan = Plan(("inception",), bootstrap, 1)
    total = Lap()
    for measure in (*of_encoder("inception"), MS_SSIM, *of_looks()):
        with clock() as lap:
            figure(measure, sides, plan)
        total.wall, total.cpu = total.wall + lap.wall, total.cpu + lap.cpu
        print(f"{measure.name:28s} {lap.wall:7.1f} s wall {lap.cpu:7.1f} s processor", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"sum {total.wall:.0f} s wall, {total.cpu:.0f} s processor; features {held:.0f} MiB", flush=True)
    print(f"memory before {start:.0f} MiB, peak {peak:.0f} MiB: {peak - start:.0f} MiB on top", flush=True)


def search(workspace: Path, count: int) -> None:
    """Print what the search for copies and that for repeated images take an image, on real images of a workspace."""
    values = yaml.safe_load((workspace / "params.yaml").read_text())
    cases = read_cases(workspace, Params(preset="x", data=values["data"], ingest=values["ingest"]))
    train, others = (cases.take((cases.groups == "train") == side) for side in (True, False))
    queries = others.images[np.arange(count) % len(others)]
    encoder = CachedEncoder(open_encoder("aligner", workspace / "models" / "aligner"), Path(".work/cache/features"))
    encoder.features(others.images)  # cached: what is measured comes after the features
    found = Search(Gallery(train.images, train.ids, patient_names(train)), encoder)
    sources = np.array([f"source-{i}" for i in range(len(others))])
    for name, of in (
        ("copies", lambda: found.find(queries)),
        ("repeated", lambda: repeated(queries[: len(others)], sources[: min(count, len(others))])),
    ):
        with clock() as lap:
            of()
        each = count if name == "copies" else min(count, len(others))
        print(
            f"{name}: {lap.cpu / each * 1e3:.2f} ms of a processor an image, {lap.wall / each * 1e3:.2f} wall",
            flush=True,
        )
    print(f"{len(train)} training images, {count} looked up")


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("features", "figures", "search"))
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--bootstrap", type=int, default=1000)
    found = parser.parse_args()
    if found.what == "features":
        torch.set_num_threads(1)
        features(found.workspace, found.images)
    elif found.what == "search":
        torch.set_num_threads(1)
        search(found.workspace, found.images)
    else:
        figures(found.images, found.bootstrap)
    return 0


if __name__ == "__main__":
    sys.exit(main())
