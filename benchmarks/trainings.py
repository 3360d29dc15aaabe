"""What differs between ways to ask and to sample, over several trainings of one generator?

    python -m benchmarks.trainings WORKSPACE GENERATOR ... --keep DIR --images 96 \
        --arm "one coarse_steps=20 agreement=0.0" --arm "two" --arm "boxes" --pair two-one --pair boxes-two

WORKSPACE holds guide and judge, each GENERATOR is a trained one's folder. An arm is a name and parameters of the
section sample beside the defaults (`agreement` is 1: the whole budget); where the name begins with `boxes`, boxes are
asked for alone. All arms have the same layouts (experts' outlines of test patients) and noise; a pair's difference is
taken within each training. Intervals are bootstraps over trainings and, inside each draw, over patients.
What was made lies in DIR and is used again; with `--make-only` nothing is measured, so that two can run side by side.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import sampling
from benchmarks.ablation import hierarchical, kid_difference, mean
from benchmarks.sampling import Arm, World
from fetalflex.dataset import patient_names
from fetalflex.model.generator import Generator
from fetalflex.params import Sample

_WHOLE_BUDGET = {"agreement": 1.0}


def parse_arm(text: str) -> tuple[str, Sample]:
    """Return an arm's name and parameters."""
    name, *changes = text.split()
    return name, sampling.changed(Sample(), _WHOLE_BUDGET | sampling.read_changes(changes))


def made(world: World, name: str, params: Sample) -> Arm:
    """Sample an arm of one training, or take what is kept."""
    asked = world.requests()
    if name.startswith("boxes"):
        asked = [replace(r, layout=r.layout.boxes_only()) for r in asked]
    return sampling.run_arm(world, name, asked, params)


def show(arms: dict[str, list[Arm]], pairs: list[str], worlds: list[World]) -> None:
    """Print each arm over all trainings, and the pairs' differences."""
    patients, distances = patient_names(worlds[0].cases), sampling.Distances(worlds[0])
    heads = [*sampling.SHOWN, "all"]
    print("| arm | evaluations | " + " | ".join(heads) + " | KID (each) |\n|" + "---|" * (3 + len(heads)))
    dice = {name: [sampling.columns(a.dice) for a in of] for name, of in arms.items()}
    for name, of in arms.items():
        kids = [distances.kid(a) for a in of]
        means = [f"{mean(np.stack([d[h] for d in dice[name]])):.3f}" for h in heads]
        each = ", ".join(f"{k:.4f}" for k in kids)
        count = f"{np.mean([a.evaluations.mean() for a in of]):.1f}"
        print(f"| {name} | {count} | " + " | ".join(means) + f" | {np.mean(kids):.4f} ({each}) |", flush=True)
    for pair in pairs:
        one, other = pair.split("-")
        row = []
        for h in heads:
            differences = np.stack([a[h] - b[h] for a, b in zip(dice[one], dice[other], strict=True)])
            row.append(sampling.text(hierarchical(differences, patients)))
        features = [(distances.of(a), distances.of(b)) for a, b in zip(arms[one], arms[other], strict=True)]
        row.append(sampling.text(kid_difference(distances.real, features), 4))
        print(f"| **{one} - {other}** | | " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Make what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("generators", type=Path, nargs="+")
    parser.add_argument("--keep", type=Path, required=True, help="folder for what was made")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--arm", action="append", default=[], metavar="'NAME key=value ...'")
    parser.add_argument("--pair", action="append", default=[], metavar="NAME-NAME")
    parser.add_argument("--make-only", action="store_true")
    chosen = parser.parse_args()
    world = sampling.load_world(chosen.workspace, chosen.keep, chosen.images, Sample())
    worlds = [replace(world, generator=Generator.load(folder)) for folder in chosen.generators]
    arms = dict(parse_arm(text) for text in chosen.arm)
    results: dict[str, list[Arm]] = {name: [] for name in arms}
    for folder, one in zip(chosen.generators, worlds, strict=True):
        for name, params in arms.items():
            results[name].append(made(one, name, params))
            print(f"{folder.name}: {name}, {results[name][-1].seconds:.0f} processor seconds", flush=True)
    if chosen.make_only:
        return
    real = sampling.columns(sampling.judged(world, world.cases.images))
    print({k: round(mean(v), 3) for k, v in real.items()}, "is what the judge reaches on the real images")
    show(results, chosen.pair, worlds)


if __name__ == "__main__":
    main()
