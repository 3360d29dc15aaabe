"""One process' share of the images that `benchmarks.packed_chain` samples: arms on the same layouts and noise.

`all`: the layouts of all real test cases, as sampled by default. Of the experts' outlines of test heads: `two` stages,
`one` stage, `steps200`, `boxes` alone. `wide`: their ventricles widened; `phantom` and `phantom-wide`: heads of the
phantom, normal and with a ventricle of 14 mm. Each image has its seed from (7, its case): the arms share the noise.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.packed import expert_layout, unpack
from benchmarks.train_packed import read
from fetalflex.anatomy.anomalies import apply_anomaly
from fetalflex.anatomy.editing import millimetres_per_unit
from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.ontology import structure_index
from fetalflex.dataset import EXPERT, Cases
from fetalflex.diffusion.two_stage import SampleRequest, sample_images
from fetalflex.errors import AnomalyError
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.generator import Generator
from fetalflex.params import Sample
from fetalflex.rng import generator as random_of

SEED, WIDE_MM, EXPERTS, PHANTOMS = 7, (12.0, 14.0, 16.0, 18.0), 120, 48


@dataclass(frozen=True, eq=False)
class Asked:
    """A request of an arm, and what of it measuring needs to know."""

    arm: str
    request: SampleRequest
    params: Sample
    note: dict[str, float | str]


def arms(cases: Cases, sample: Sample) -> Iterator[Asked]:
    """Return all requests, in an order that does not change."""
    one = sample.model_copy(update={"coarse_steps": sample.budget, "agreement": 0.0})
    long = sample.model_copy(update={"budget": 200, "coarse_steps": 200, "agreement": 0.0})
    phantom = np.char.startswith(cases.centers.astype(np.str_), "phantom")
    ventricle = cases.sources[:, structure_index("lateral-ventricle")] == EXPERT
    head = cases.sources[:, structure_index("head")] == EXPERT
    for i in np.flatnonzero(~phantom):
        yield Asked("all", SampleRequest(str(cases.ids[i]), cases.layout(int(i))), sample, {})
    order = np.flatnonzero(~phantom & head)
    shown = (cases.sources[order] == EXPERT).sum(1)
    for i in np.sort(order[np.lexsort((cases.ids[order], -shown))][:EXPERTS]):
        name, layout = str(cases.ids[i]), expert_layout(cases, int(i))
        yield Asked("two", SampleRequest(name, layout), sample, {})
        yield Asked("one", SampleRequest(name, layout), one, {})
        yield Asked("steps200", SampleRequest(name, layout), long, {})
        yield Asked("boxes", SampleRequest(name, layout.boxes_only()), sample, {})
    for number, i in enumerate(np.flatnonzero(~phantom & head & ventricle)):
        wide = widened(expert_layout(cases, int(i)), WIDE_MM[number % len(WIDE_MM)], str(cases.ids[i]))
        if wide is not None:
            yield Asked("wide", SampleRequest(str(cases.ids[i]), wide[0]), sample, wide[1])
    for i in np.flatnonzero(phantom & head & ventricle)[:PHANTOMS]:
        layout = cases.layout(int(i))
        wide = widened(layout, 14.0, str(cases.ids[i]))
        yield Asked("phantom", SampleRequest(str(cases.ids[i]), layout), sample, {})
        if wide is not None:
            yield Asked("phantom-wide", SampleRequest(str(cases.ids[i]), wide[0]), sample, wide[1])


def widened(layout: Layout, width_mm: float, name: str) -> tuple[Layout, dict[str, float | str]] | None:
    """Return the layout with a ventricle of that width, and what was asked; None where there is no room for it."""
    try:
        made = apply_anomaly(layout, "ventriculomegaly", width_mm, random_of(SEED, "wide", name))
    except AnomalyError:  # the head has no room for it, or is as wide already
        return None
    return made, {"width_mm": width_mm, "mm_per_unit": millimetres_per_unit(layout), "layout": made.to_json()}


def main() -> None:
    """Sample the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="of packed_chain")
    parser.add_argument("--preset", required=True)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--share", default="0/1", help="I/N: of every N batches of an arm, number I")
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    sample, (share, of) = read(args).sample, map(int, args.share.split("/"))
    generator, guide = Generator.load(args.work / "generator"), Segmenter.load(args.work / "guide").to(args.device)
    generator.denoiser.to(args.device)
    asked = list(arms(unpack(args.work / "test.zip"), sample))
    names = list(dict.fromkeys(a.arm for a in asked))
    size = sample.batch_size
    for name in sorted(names, key=["phantom-wide", "wide", "two", "one", "all", "boxes", "phantom", "steps200"].index):
        own = [a for a in asked if a.arm == name]
        folder = args.work / "arms" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, start in enumerate(range(0, len(own), size)):
            if number % of != share:
                continue
            batch = own[start : start + size]
            for a, made in zip(
                batch, sample_images(generator, guide, [a.request for a in batch], batch[0].params, SEED), strict=True
            ):
                lossless = name == "all"
                Image.fromarray(made.image).save(folder / f"{made.image_id}.webp", lossless=lossless, quality=95)
                note = {"agreement": made.agreement, "evaluations": made.evaluations, "rounds": made.rounds} | a.note
                (folder / f"{made.image_id}.json").write_text(json.dumps(note))
        print(f"share {args.share}: {name}", flush=True)


if __name__ == "__main__":
    main()
