"""Does a measure of framed heads tell ventriculomegaly's degrees apart? Real images, no abnormal one learnt from.

    python -m benchmarks.head_biometry WORKSPACE --abnormal WORKSPACE --trainings 3 --steps 600 --out DIR

Heads are cut out of frames of 256 pixels: where the workspace's guide sees them, at its own size; of annotated cases
along their masks. Segmenters learn ventricles from crops of the group train and from copies with a painted wide
ventricle (`masks.widening`). An image's score is the width of the largest ventricle, or all ventricles' area, over the
head's.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from benchmarks.framing import Corners, around, cut, heads_of
from fetalflex.anatomy.measure import ellipse_diameters
from fetalflex.anatomy.ontology import structure_index
from fetalflex.dataset import EXPERT, Cases
from fetalflex.downstream.statistics import compare
from fetalflex.downstream.statistics.compare import averaged, draw
from fetalflex.downstream.statistics.metrics import auc
from fetalflex.masks.segmenter import Segmenter, SegmenterRun, largest_part, train_segmenter
from fetalflex.masks.widening import with_widened
from fetalflex.params import Masks, read_params
from fetalflex.quality.bootstrap import Interval
from fetalflex.rng import generator
from tasks.cases import read_cases, read_findings
from tasks.downstream import real_findings

HEAD, VENTRICLE = structure_index("head"), structure_index("lateral-ventricle")
FRAME = 256


def framed_cases(cases: Cases, side: int) -> Cases:
    """Return the cases that show a head, cut to it."""
    shown = cases.take(np.flatnonzero(cases.masks[:, HEAD].any((1, 2))))
    corners = [around(m[HEAD], shown.size) for m in shown.masks]

    def flags(maps: npt.NDArray[np.bool_], at: Corners) -> npt.NDArray[np.bool_]:
        return np.stack([cut(m.astype(np.uint8) * 255, at, side) > 127 if m.any() else np.zeros((side, side), bool)
                         for m in maps])  # fmt: skip

    return replace(
        shown,
        images=np.stack([cut(image, at, side) for image, at in zip(shown.images, corners, strict=True)]),
        masks=np.stack([flags(m, at) for m, at in zip(shown.masks, corners, strict=True)]),
        valid=np.stack([flags(m[None], at)[0] for m, at in zip(shown.valid, corners, strict=True)]),
        ignored=np.stack([flags(m[None], at)[0] for m, at in zip(shown.ignored, corners, strict=True)]),
    )


def scores(segmenter: Segmenter, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float64]]:
    """Return per image the width of the largest ventricle and the ventricles' area, each over the head's."""
    seen = segmenter.predict(images)
    area = (seen[:, HEAD] > 0.5).sum((1, 2)) + 1
    parts = [largest_part(ventricle > 0.5) for ventricle in seen[:, VENTRICLE]]
    widths = [ellipse_diameters(part, part.shape[0])[1] if part.sum() > 3 else 0.0 for part in parts]
    inside = seen[:, VENTRICLE] * (seen[:, HEAD] > 0.3)
    return {"width": np.array(widths) / np.sqrt(area), "area": inside.sum((1, 2)) / area}


def interval(truth: npt.NDArray[np.bool_], runs: npt.NDArray[np.float64]) -> Interval:
    """Return the mean AUC over trainings [T, N] and its 95 % interval over trainings and images (one per patient)."""
    draws = draw(np.arange(len(truth)).astype(np.str_), len(runs), 2000, generator(0, "auc"))
    return compare.interval(averaged(lambda run, weights: auc(runs[run], truth, weights), draws))


def trained(cases: Cases, args: argparse.Namespace) -> Iterator[Segmenter]:
    """Yield a segmenter per seed; one that is kept is read."""
    learnt = cases.of_group("train")
    for seed in range(args.trainings):
        folder = args.out / f"segmenter-{seed}"
        if not folder.is_dir():
            seen = with_widened(learnt, args.widened, seed)
            for step in train_segmenter(seen, Masks(steps=args.steps), SegmenterRun("guide", seed)):
                if step.step % 100 == 0:
                    print(f"training {seed}: step {step.step}, loss {step.loss:.3f}", flush=True)
                if step.trained is not None:
                    step.trained.save(folder)
        yield Segmenter.load(folder)


def main() -> None:
    """Train, score, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--abnormal", type=Path, required=True, help="a workspace with findings of a test_only center")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--widened", type=float, default=1.0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    params, other = read_params(args.workspace / "params.yaml"), read_params(args.abnormal / "params.yaml")
    data = params.data.model_copy(update={"image_size": FRAME})
    cases = framed_cases(read_cases(args.workspace, params.model_copy(update={"data": data})), args.side)
    guide = Segmenter.load(args.workspace / "models" / "guide")
    rows = read_findings(args.abnormal, other)
    (raw, _), (small, _) = (real_findings(rows, side) for side in (FRAME, params.data.image_size))
    heads = heads_of(small.images, guide, FRAME)
    found = np.stack([cut(image, at, args.side) for image, at in zip(raw.images, heads, strict=True)])
    expert = cases.of_group("test")
    expert = expert.take(np.flatnonzero(expert.sources[:, VENTRICLE] == EXPERT))
    runs: dict[str, list] = {}
    for number, segmenter in enumerate(trained(cases, args)):
        for name, values in scores(segmenter, found).items():
            runs.setdefault(name, []).append(values)
        seen, truth = segmenter.predict(expert.images)[:, VENTRICLE] > 0.5, expert.masks[:, VENTRICLE]
        overlap = 2 * (seen & truth).sum((1, 2)) / (seen.sum((1, 2)) + truth.sum((1, 2)))
        print(f"training {number}: Dice of {len(expert)} normal ventricles {overlap.mean():.3f}")
    wide = np.array(["ventriculomegaly" in name for name in raw.labels])
    severe = wide & ~np.char.startswith(raw.labels.astype(np.str_), "mild")
    for name, values in runs.items():
        each = np.stack(values)
        for test, truth, among in (("severity", severe, wide), ("kind", wide, np.ones(len(wide), bool))):
            area = interval(truth[among], each[:, among])
            single = ", ".join(f"{roc_auc_score(truth[among], run[among]):.2f}" for run in each)
            print(f"{name}, {test}: AUC {area.value:.2f} ({area.low:.2f} to {area.high:.2f}); each {single}")


if __name__ == "__main__":
    main()
