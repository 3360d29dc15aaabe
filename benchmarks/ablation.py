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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.sampling import expert_layout
from fetalflex import rng
from fetalflex.anatomy.layout import rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure_index
from fetalflex.artifacts import write_json
from fetalflex.dataset import EXPERT, Cases, marked_share
from fetalflex.diffusion.train import Run, train_generator
from fetalflex.diffusion.two_stage import SampleRequest, sample_images
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.generator import Generator
from fetalflex.model.loop import Where
from fetalflex.model.prealign import Aligner, new_aligner, train_aligner
from fetalflex.params import Prealign, Sample, Train
from fetalflex.quality import fidelity
from fetalflex.quality.bootstrap import Interval, cluster_numbers, percentile_interval
from fetalflex.quality.control import control_dice, image_means
from fetalflex.quality.features import CachedEncoder, InceptionEncoder
from tasks.cases import patient_names

ARMS, SHOWN, DRAWS, PROBE_STEPS = ("with", "without"), ("head", "csp", "lateral-ventricle"), 2000, 6


def last(steps: Iterable, label: str, total: int, every: int = 50):
    """Run a training to its end, telling how far it is; return what was trained."""
    trained, start = None, time.monotonic()
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


def trained(
    folder: Path, arm: str, cases: Cases, params: tuple[Prealign, Train, dict], seed: int, threads: int
) -> Generator:
    """Return an arm's generator of a seed: the kept one, or a new one."""
    if (folder / "generator" / "config.json").is_file():
        return Generator.load(folder / "generator")
    prealign, train, kept = params
    if arm == "with":
        steps = train_aligner(cases, prealign, train.patch, seed, Where(folder / "align-state", threads))
        aligner: Aligner = last(steps, f"{folder.name} alignment", prealign.steps)
        total = train.steps
    else:
        aligner, total = new_aligner(cases, prealign, train.patch, seed), train.steps + kept["further_steps"]
    longer = train.model_copy(update={"steps": total})
    run = Run(seed, folder / "train-state", threads)
    generator = last(train_generator(cases, aligner, longer, run), folder.name, total)
    generator.save(folder / "partial")
    (folder / "partial").rename(folder / "generator")
    return generator


def made(folder: Path, generator: Generator, guide: Segmenter, asked: list[SampleRequest], how: str) -> np.ndarray:
    """Return the images that a generator makes of the requests: the kept ones, or new ones. `how`: JSON of `Sample`."""
    path = folder / "images.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            if kept["ids"].tolist() == [r.image_id for r in asked] and str(kept["how"]) == how:
                return kept["images"]
    images = np.stack([r.image for r in sample_images(generator, guide, asked, Sample(**json.loads(how)), 7)])
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, images=images, ids=np.array([r.image_id for r in asked]), how=how)
    partial.rename(path)
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
    kernels = [tuple(fidelity._Kid(real, side) for side in pair) for pair in pairs]
    rn, sn = cluster_numbers(real.clusters), cluster_numbers(pairs[0][0].clusters)
    values, draws = [a.value() - b.value() for a, b in kernels], []
    for _ in range(DRAWS // 4):
        drawn = []
        for t in random.integers(len(pairs), size=len(pairs)):
            u, v = (random.multinomial(n.max() + 1, np.full(n.max() + 1, 1 / (n.max() + 1)))[n] for n in (rn, sn))
            a, b = kernels[t]
            drawn.append(a.drawn(u, v) - b.drawn(u, v))
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


def distances(
    cases: Cases, question: Question, pictures: dict[tuple[str, int], np.ndarray], keep: Path
) -> tuple[dict[str, list[float]], Interval]:
    """Return each training's KID against the real test images of these planes, and the paired difference."""
    encoder = CachedEncoder(InceptionEncoder(batch=32), keep)
    held = cases.of_group("test")
    held = held.take(np.isin(held.planes, np.unique(question.cases.planes)) & (marked_share(held) <= 0.05))
    real = fidelity.Sample(encoder.features(held.images), patient_names(held))
    sides = {k: fidelity.Sample(encoder.features(v), question.patients) for k, v in pictures.items()}
    seeds = sorted({seed for _, seed in pictures})
    kids = {arm: [fidelity.kid(real.features, sides[arm, s].features) for s in seeds] for arm in ARMS}
    return kids, kid_difference(real, [(sides["with", s], sides["without", s]) for s in seeds])


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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-kid", action="store_true", help="leave Inception out")
    return parser.parse_args()


def main() -> None:
    """Train what is missing, sample, measure, print the table."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    cases, models = Cases.load(args.cases), args.workspace / "models"
    judge, guide = Segmenter.load(models / "judge"), Segmenter.load(models / "guide")
    training, question = cases.of_group("train"), ask(cases, judge, args.images)
    params, pictures = plan(args.out, training, args), {}
    for seed, arm in itertools.product(args.seeds, ARMS):
        folder = args.out / f"{arm}-{seed}"
        folder.mkdir(exist_ok=True)
        generator = trained(folder, arm, training, params, seed, args.threads)
        pictures[arm, seed] = made(folder, generator, guide, question.requests, args.sample)
        print(f"{folder.name}: {len(question.requests)} images", flush=True)
    if args.train_only:
        return
    shown, own = [*SHOWN, "all"], scores(judge, question, question.cases.images)
    dice = {arm: np.stack([scores(judge, question, pictures[arm, s]) for s in args.seeds]) for arm in ARMS}
    paired = dice["with"] - dice["without"]
    differences = {n: hierarchical(paired[..., i], question.patients) for i, n in enumerate(shown)}
    kids: dict[str, list[float]] = {arm: [] for arm in ARMS}
    if not args.no_kid:
        kids, differences["kid"] = distances(cases, question, pictures, args.out / "features")
    prealign, train, kept = params
    patients = len(np.unique(question.patients))
    print(f"\n{len(args.seeds)} trainings each; {len(question.requests)} layouts of {patients} patients")
    print(
        f"an alignment step costs {kept['ratio']:.2f} of a training step; with: {prealign.steps} + {train.steps} steps,"
    )
    print(f"without: {train.steps + kept['further_steps']} steps")
    print("judge on the real images:", {n: round(mean(own[:, i]), 3) for i, n in enumerate(shown)})
    print("per training:", {a: [round(mean(d[:, -1]), 3) for d in dice[a]] for a in ARMS}, kids)
    result = table(dice, kids, differences)
    (args.out / "table.md").write_text(result + "\n")
    print(result)


if __name__ == "__main__":
    main()
