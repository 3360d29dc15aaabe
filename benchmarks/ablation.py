"""Is pre-alignment worth its compute? Generators with it, and without it but trained longer by as much, on one judge.

    python -m benchmarks.ablation WORKSPACE --cases CASES.npz --out DIR --seeds 0 1 2 --steps 400

`with`: an aligner is trained, then the denoiser from it. `without`: the denoiser starts from an untrained layout
encoder, and takes as many further steps as the alignment would have cost in processor time, measured first. Each
training has a seed and a folder of its own under DIR: what is finished is kept, what was broken off goes on. Both
arms are asked for the same layouts (the experts' outlines of test patients) from the same noise; the workspace's judge
and Inception look at the images. Intervals are bootstraps over trainings and, inside each draw, over patients.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.packed import expert_layout, unpack
from fetalflex import rng
from fetalflex.anatomy.layout import rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure_index
from fetalflex.artifacts import write_json
from fetalflex.dataset import EXPERT, Cases, marked_share, patient_names
from fetalflex.diffusion.train import Run, train_generator
from fetalflex.diffusion.two_stage import SampleRequest, sample_images
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.generator import Generator
from fetalflex.model.loop import Where
from fetalflex.model.prealign import Aligner, new_aligner, train_aligner
from fetalflex.params import Prealign, Sample, Train
from fetalflex.quality.bootstrap import Interval, cluster_numbers, percentile_interval
from fetalflex.quality.control.overlap import control_dice, image_means
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.features.inception import InceptionEncoder
from fetalflex.quality.fidelity import kernel as fidelity

ARMS, SHOWN, DRAWS, PROBE_STEPS = ("with", "without"), ("head", "csp", "lateral-ventricle"), 2000, 6


def last(steps: Iterable, label: str, total: int, every: int = 50):
    """Run a training to its end, telling how far it is; return what was trained."""
    trained, start = None, time.monotonic()  # the clock of the progress lines
    for step in steps:
        trained = step.trained
        if step.step % every == 0 or step.step == total:
            print(
                f"{label}: step {step.step} of {total}, loss {step.loss:.4f}, {time.monotonic() - start:.0f} s",
                flush=True,
            )
    if trained is None:
        raise SystemExit(f"{label}: ended without a result")
    return trained


def cost_ratio(cases: Cases, prealign: Prealign, train: Train, threads: int) -> float:
    """Return how many training steps one alignment step costs, in processor time, by turns."""
    aligner = new_aligner(cases, prealign, train.patch, 0)
    one = train_aligner(cases, prealign.model_copy(update={"steps": 100}), train.patch, 0, Where(threads=threads))
    other = train_generator(cases, aligner, train.model_copy(update={"steps": 100}), Run(0, threads=threads))
    spent = [[], []]
    for turn in range(PROBE_STEPS):
        for side, steps in enumerate((one, other)):
            start = time.process_time()
            next(steps)
            if turn:
                spent[side].append(time.process_time() - start)
    return float(np.median(spent[0]) / np.median(spent[1]))


def plan(out: Path, cases: Cases, args: argparse.Namespace) -> tuple[Prealign, Train, dict]:
    """Return the parameters; the compute ratio is measured once and kept, so that a resumed run has the same arms."""
    prealign = Prealign(**({"steps": args.prealign_steps} | json.loads(args.prealign)))
    train = Train(**({"steps": args.steps, "channels": tuple(args.channels)} | json.loads(args.train)))
    told = {"prealign": prealign.model_dump(mode="json"), "train": train.model_dump(mode="json"), "cases": len(cases)}
    path = out / "plan.json"
    if path.is_file():
        kept = json.loads(path.read_text())
        if {k: kept[k] for k in told} != told:
            raise SystemExit(f"{out}: holds trainings of other parameters or cases; expected another folder")
        return prealign, train, kept
    ratio = cost_ratio(cases, prealign, train, args.threads)
    kept = told | {"ratio": ratio, "further_steps": math.ceil(ratio * prealign.steps)}
    write_json(path, kept)
    return prealign, train, kept


def trained(folder: Path, arm: str, cases: Cases, params: tuple[Prealign, Train, dict], where: Run) -> Generator:
    """Return an arm's generator of a seed: the kept one, or a new one."""
    if (folder / "generator" / "config.json").is_file():
        return Generator.load(folder / "generator")
    prealign, train, kept = params
    seed, threads, device = where.seed, where.threads, where.device
    if arm == "with":
        steps = train_aligner(cases, prealign, train.patch, seed, Where(folder / "align-state", threads, device))
        aligner: Aligner = last(steps, f"{folder.name} alignment", prealign.steps, 500).to("cpu")
        total = train.steps
    else:
        aligner, total = new_aligner(cases, prealign, train.patch, seed), train.steps + kept["further_steps"]
    longer = train.model_copy(update={"steps": total})
    run = Run(seed, folder / "train-state", threads, device)
    generator = last(train_generator(cases, aligner, longer, run), folder.name, total, 500)
    generator.save(folder / "partial")
    (folder / "partial").rename(folder / "generator")
    return generator


def kept_images(path: Path, asked: list[SampleRequest], how: str) -> np.ndarray | None:
    """Return the images of these requests that were made in this way before; None where there are none."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        same = kept["ids"].tolist() == [r.image_id for r in asked] and str(kept["how"]) == how
        return kept["images"] if same else None


def made(path: Path, generator: Generator, guide: Segmenter, asked: list[SampleRequest], how: str) -> np.ndarray:
    """Return the images that a generator makes of the requests, and keep them. `how`: JSON of `Sample`."""
    images = np.stack([r.image for r in sample_images(generator, guide, asked, Sample(**json.loads(how)), 7)])
    unfinished = path.with_suffix(".partial.npz")
    np.savez_compressed(unfinished, images=images, ids=np.array([r.image_id for r in asked]), how=how)
    unfinished.rename(path)
    return images


def mean(values: np.ndarray) -> float:
    """Return the mean of what is finite; NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def hierarchical(values: np.ndarray, patients: np.ndarray) -> Interval:
    """Return the mean of values [trainings, N] (NaN left out), its interval over trainings and, in each, patients."""
    numbers, random = cluster_numbers(patients), rng.generator(7, "ablation")
    count, draws = int(numbers.max()) + 1, []
    for _ in range(DRAWS):
        total = weight = 0.0
        for t in random.integers(len(values), size=len(values)):
            w = random.multinomial(count, np.full(count, 1 / count))[numbers] * np.isfinite(values[t])
            total += float(w @ np.nan_to_num(values[t]))
            weight += float(w.sum())
        draws.append(total / weight if weight else np.nan)
    return percentile_interval(mean(values), np.array(draws))


def kid_difference(real: fidelity.Sample, pairs: list[tuple[fidelity.Sample, fidelity.Sample]]) -> Interval:
    """Return the mean KID difference (first - second) over trainings; the interval as in `hierarchical`."""
    random = rng.generator(7, "ablation-kid")
    kernels = [tuple(fidelity.Mmd(real, side, fidelity.cubic) for side in pair) for pair in pairs]
    rn, sn = cluster_numbers(real.clusters), cluster_numbers(pairs[0][0].clusters)
    values, draws = [a.value() - b.value() for a, b in kernels], []
    for _ in range(DRAWS // 4):
        drawn = []
        for t in random.integers(len(pairs), size=len(pairs)):
            u, v = (random.multinomial(n.max() + 1, np.full(n.max() + 1, 1 / (n.max() + 1)))[n] for n in (rn, sn))
            a, b = kernels[t]
            drawn.append(float((a.drawn(u[None], v[None]) - b.drawn(u[None], v[None]))[0]))
        draws.append(np.mean(drawn))
    return percentile_interval(float(np.mean(values)), np.array(draws))


def table(dice: dict[str, np.ndarray], kids: dict[str, list[float]], differences: dict[str, Interval]) -> str:
    """Return the result as Markdown; dice: [trainings, N, columns]."""
    names = [*SHOWN, "all"]
    lines = ["| arm | " + " | ".join(names) + " | KID |", "|" + "---|" * (len(names) + 2)]
    for arm in ARMS:
        means = [mean(dice[arm][..., i]) for i in range(len(names))]
        kid = f"{np.mean(kids[arm]):.4f}" if kids[arm] else "not measured"
        lines.append(f"| {arm} | " + " | ".join(f"{m:.3f}" for m in means) + f" | {kid} |")
    cells = [f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})" for d in (differences[n] for n in names)]
    kid = differences.get("kid")
    cells.append(f"{kid.value:+.4f} ({kid.low:+.4f} to {kid.high:+.4f})" if kid else "not measured")
    return "\n".join([*lines, "| with - without | " + " | ".join(cells) + " |"])


def variants(args: argparse.Namespace, requests: list[SampleRequest]) -> dict[str, tuple[list[SampleRequest], str]]:
    """Return what every training is asked for, by name: requests, and JSON of `Sample`. `""` is the arms' own."""
    asked = {"": (requests, args.sample)}
    for text in args.variant:
        name, _, how = text.partition("=")
        if name.startswith("boxes"):
            asked[name] = ([replace(r, layout=r.layout.boxes_only()) for r in requests], how)
        else:
            asked[name] = (requests, how)
    return asked


def sampled(
    folder: Path, asked: dict[str, tuple[list[SampleRequest], str]], guide: Segmenter, train: Callable[[], Generator]
) -> dict[str, np.ndarray]:
    """Return the images of one training, by variant; it is trained only where some are missing."""
    paths = {name: folder / f"images{'-' if name else ''}{name}.npz" for name in asked}
    found = {name: kept_images(paths[name], *what) for name, what in asked.items()}
    missing = [name for name, images in found.items() if images is None]
    generator = train() if missing else None
    if generator is not None:
        generator.denoiser.to(next(guide.parameters()).device)
        found |= {name: made(paths[name], generator, guide, *asked[name]) for name in missing}
    return {name: images for name, images in found.items() if images is not None}


@dataclass(frozen=True, eq=False)
class Question:
    """What every generator is asked for: test cases, and their layouts as requests, maps [N, K, S, S], kinds [N, K]."""

    cases: Cases
    requests: list[SampleRequest]
    maps: np.ndarray
    kinds: np.ndarray
    patients: np.ndarray


def ask(cases: Cases, judge: Segmenter, count: int) -> Question:
    """Return the experts' outlines of the test cases that show most of the structures that the judge knows."""
    test = cases.of_group("test")
    expert = test.sources == EXPERT
    shown = expert[:, [structure_index(n) for n in SHOWN if n in judge.trained]].sum(1)
    order = [i for i in np.lexsort((test.ids, -shown)) if shown[i]]
    asked = test.take(np.sort(order[:count]))
    layouts = [expert_layout(asked, i) for i in range(len(asked))]
    drawn = [rasterize(layout, asked.size) for layout in layouts]
    known = np.array([name in judge.trained for name in STRUCTURE_NAMES])
    return Question(
        asked, [SampleRequest(str(i), layout) for i, layout in zip(asked.ids, layouts, strict=True)],
        np.stack([d.maps for d in drawn]), np.stack([d.kinds for d in drawn]) * known, patient_names(asked),
    )  # fmt: skip


def scores(judge: Segmenter, question: Question, images: np.ndarray) -> np.ndarray:
    """Return the judge's Dice [N, columns], by structure and over all."""
    found = control_dice(judge.predict, images, question.maps, question.kinds)
    return np.stack([*(found[:, structure_index(n)] for n in SHOWN), image_means(found)], 1)


class Distances:
    """KID against the real test images of the planes that are asked for."""

    def __init__(self, cases: Cases, question: Question, keep: Path) -> None:
        self.encoder, self.patients = CachedEncoder(InceptionEncoder(batch=32), keep), question.patients
        held = cases.of_group("test")
        held = held.take(np.isin(held.planes, np.unique(question.cases.planes)) & (marked_share(held) <= 0.05))
        self.real = fidelity.Sample(self.encoder.features(held.images), patient_names(held))

    def of(self, images: np.ndarray) -> fidelity.Sample:
        """Return the features of images of the question."""
        return fidelity.Sample(self.encoder.features(images), self.patients)

    def kid(self, images: np.ndarray) -> float:
        """Return their KID."""
        return fidelity.kid(self.real.features, self.of(images).features)

    def difference(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Interval:
        """Return the KID of the first less that of the second, over trainings."""
        return kid_difference(self.real, [(self.of(one), self.of(other)) for one, other in pairs])


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="holds models/judge and models/guide")
    parser.add_argument("--cases", type=Path, required=True, help="packed cases (Cases.save) of all groups")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="one training per arm and seed")
    parser.add_argument("--train-only", action="store_true", help="no table: several may run side by side, by seed")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--prealign-steps", type=int, default=150)
    parser.add_argument("--channels", type=int, nargs="*", default=[64, 96, 128])
    parser.add_argument("--train", default="{}", help="JSON of further parameters of the section train")
    parser.add_argument("--prealign", default="{}", help="JSON of further parameters of the section prealign")
    parser.add_argument("--sample", default='{"budget": 12, "agreement": 0.0}', help="JSON of the section sample")
    parser.add_argument("--images", type=int, default=96, help="layouts per training")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="more ways to sample: JSON "
        "of the section sample; where NAME begins with `boxes`, boxes are asked for alone",
    )
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS, help="with --train-only: these alone")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-kid", action="store_true", help="leave Inception out")
    return parser.parse_args()


def compared(
    sides: tuple[list[np.ndarray], list[np.ndarray]], judge: Segmenter, question: Question, distances: Distances | None
) -> tuple[dict[str, np.ndarray], dict[str, list[float]], dict[str, Interval]]:
    """Return Dice [trainings, N, columns] and KID of two sides of paired trainings, and the differences' intervals."""
    dice = dict(zip(ARMS, (np.stack([scores(judge, question, i) for i in side]) for side in sides), strict=True))
    paired = dice[ARMS[0]] - dice[ARMS[1]]
    found = {n: hierarchical(paired[..., i], question.patients) for i, n in enumerate([*SHOWN, "all"])}
    kids: dict[str, list[float]] = {arm: [] for arm in ARMS}
    if distances is not None:
        kids = {arm: [distances.kid(i) for i in side] for arm, side in zip(ARMS, sides, strict=True)}
        found["kid"] = distances.difference(list(zip(*sides, strict=True)))
    return dice, kids, found


def main() -> None:
    """Train what is missing, sample, measure, print the tables."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    cases = unpack(args.cases) if args.cases.suffix == ".zip" else Cases.load(args.cases)
    judge, guide = (Segmenter.load(args.workspace / "models" / name) for name in ("judge", "guide"))
    training, question = cases.of_group("train"), ask(cases, judge, args.images)
    params, asked = plan(args.out, training, args), variants(args, question.requests)
    pictures: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for seed, arm in itertools.product(args.seeds, args.arms):
        folder, where = args.out / f"{arm}-{seed}", Run(seed, None, args.threads, args.device)
        folder.mkdir(exist_ok=True)
        train = partial(trained, folder, arm, training, params, where)
        pictures[arm, seed] = sampled(folder, asked, guide.to(args.device), train)
        print(f"{folder.name}: {len(question.requests)} images", flush=True)
    if args.train_only:
        return
    own = scores(judge, question, question.cases.images)
    distances = None if args.no_kid else Distances(cases, question, args.out / "features")
    prealign, train_params, kept = params
    patients = len(np.unique(question.patients))
    print(f"\n{len(args.seeds)} trainings each; {len(question.requests)} layouts of {patients} patients")
    print(
        f"an alignment step costs {kept['ratio']:.2f} of a training step; with: {prealign.steps} + "
        f"{train_params.steps} steps,"
    )
    print(f"without: {train_params.steps + kept['further_steps']} steps")
    print("judge on the real images:", {n: round(mean(own[:, i]), 3) for i, n in enumerate([*SHOWN, "all"])})
    sides = tuple([pictures[arm, s][""] for s in args.seeds] for arm in ARMS)
    dice, kids, differences = compared(sides, judge, question, distances)
    print("per training:", {a: [round(mean(d[:, -1]), 3) for d in dice[a]] for a in ARMS}, kids)
    result = table(dice, kids, differences)
    (args.out / "table.md").write_text(result + "\n")
    print(result)
    for name in [n for n in asked if n]:
        sides = tuple([pictures[arm, s][v] for arm in ARMS for s in args.seeds] for v in (name, ""))
        print(f"\n{name} (as `with`) beside the arms' own sampling (as `without`), all trainings:")
        print(table(*compared(sides, judge, question, distances)))


if __name__ == "__main__":
    main()
