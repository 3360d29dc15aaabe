"""Retrieval of images and regions by layouts on held-out patients: a table of layout encoders, each probed alike.

Arms: `aligned` (pre-alignment as it is), `former` (its first version: 2 x 2 bins, no margin, no residual blocks, no
contrast within a structure), `untrained` (a layout encoder as it begins), and for each generator that was trained
from an untrained layout encoder `joint-N` (its layout encoder, which knows what the denoising loss taught it). Of the
last two the layout encoder is frozen, and the image encoder and all heads are trained as long as `aligned`.
"""

import argparse
import json
import time
from pathlib import Path

from fetalflex.dataset import Cases
from fetalflex.model.aligner import Aligner
from fetalflex.model.generator import Generator
from fetalflex.model.loop import Where
from fetalflex.model.prealign import new_aligner, train_aligner, train_probe
from fetalflex.model.retrieval import Found, retrieve
from fetalflex.params import Prealign

FORMER = {"region_grid": 2, "region_margin": 0.0, "image_blocks": 0, "same_structure": 0.0}
NAMES = ("layout_to_image", "image_to_layout", "token_to_region", "region_to_token")


def train(arm: str, cases: Cases, params: Prealign, generators: list[Path], args: argparse.Namespace) -> Aligner:
    """Return the trained aligner of an arm."""
    if arm in ("aligned", "former"):
        chosen = params.model_copy(update=FORMER) if arm == "former" else params
        steps = train_aligner(cases, chosen, args.patch, args.seed, Where(threads=args.threads))
    else:
        begun = new_aligner(cases, params, args.patch, args.seed)
        encoder, vocabulary = begun.layout_encoder, begun.vocabulary
        if arm.startswith("joint-"):
            generator = Generator.load(generators[int(arm.removeprefix("joint-"))])
            encoder, vocabulary = generator.denoiser.layout_encoder, generator.vocabulary
        steps = train_probe(cases, params, encoder, vocabulary, args.seed)
    trained = None
    for step in steps:
        trained = step.trained
        if step.step % 100 == 0:
            print(f"{arm}: step {step.step} of {params.steps}, loss {step.loss:.3f}", flush=True)
    if trained is None:
        raise SystemExit(f"{arm}: no result")
    return trained


def row(arm: str, found: dict[str, Found]) -> str:
    """Return a line of the table: rate and 95 % interval in percent, for rank 1 and rank 5."""
    cells = []
    for name in NAMES:
        for top in (1, 5):
            one = found[f"{name}_r{top}"]
            cells.append(f"{100 * one.rate.value:.0f} ({100 * one.rate.low:.0f} to {100 * one.rate.high:.0f})")
    return f"| {arm} | " + " | ".join(cells) + " |"


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True, help="packed cases (Cases.save)")
    parser.add_argument("--arms", default="untrained,former,aligned")
    parser.add_argument("--generators", type=Path, nargs="*", default=[], help="trained without pre-alignment")
    parser.add_argument("--group", default="test", help="patients that nothing was trained on")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--params", default="{}", help="JSON of further parameters of the section prealign")
    parser.add_argument("--patch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    cases = Cases.load(args.cases)
    params = Prealign(**({"steps": args.steps} | json.loads(args.params)))
    held_out, lines = cases.of_group(args.group), []
    arms = [arm for arm in args.arms.split(",") if arm] + [f"joint-{i}" for i in range(len(args.generators))]
    for arm in arms:
        start = time.process_time()
        trained = train(arm, cases.of_group("train"), params, args.generators, args)
        found = retrieve(trained, held_out, seed=args.seed)
        lines.append(row(arm, found))
        print(lines[-1], f"{time.process_time() - start:.0f} processor seconds", flush=True)
    header = " | ".join(f"{name} R@{top}" for name in NAMES for top in (1, 5))
    chance = " | ".join(f"{100 * found[f'{name}_r{top}'].chance:.0f}" for name in NAMES for top in (1, 5))
    print(f"\n| arm | {header} |\n|{'---|' * 9}", *lines, f"| chance | {chance} |", sep="\n")
    print({name: found[f"{name}_r1"].queries for name in NAMES})


if __name__ == "__main__":
    main()
