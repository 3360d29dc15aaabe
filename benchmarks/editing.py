"""How well an edit shows: what the judge sees on edited real test images, in the model's size and in their own.

For every test case that shows what the anomaly needs, outlined by experts: the anomaly is edited into their layout, and
only the region is made anew. The judge, trained on other patients, then measures the anomaly's structure (Dice with the
asked outline, its area over the head's) on the image before, on the edited image in the model's size, and on the edited
image in its own size, brought to the model's size again. Beside it the grey level of what the structure newly takes in.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex.anatomy.anomalies import apply_anomalies, find_anomaly
from fetalflex.anatomy.layout import Layout, changed_region, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.artifacts import decode_png
from fetalflex.dataset import EXPERT, Cases
from fetalflex.diffusion.agreement import dice
from fetalflex.diffusion.two_stage import SampleRequest, SampleResult
from fetalflex.errors import AnomalyError
from fetalflex.masks.segmenter import Segmenter, largest_part
from fetalflex.quality.bootstrap import mean_interval
from fetalflex.rng import generator
from fetalflex.synthesis.models import open_model
from fetalflex.synthesis.picture import Picture
from tasks.cases import patient_names, read_cases, read_frames
from tasks.workspace import load_params


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path, help="a workspace that has trained generator, guide and judge")
    parser.add_argument("--anomaly", default="ventriculomegaly")
    parser.add_argument("--severity", type=float, default=14.0)
    parser.add_argument("--limit", type=int, default=48, help="at most so many cases")
    parser.add_argument("--avoid", action="store_true", help="guidance points away from the normal layout")
    parser.add_argument("--whole", action="store_true", help="make the whole image anew: what the model shows at best")
    parser.add_argument("--set", nargs="*", default=[], help="sampling parameters instead of its own, key=value")
    given = parser.parse_args()
    params = load_params(given.workspace)
    model = open_model(given.workspace / "models", params.sample)
    judge = Segmenter.load(given.workspace / "models" / "judge")
    rows, patients = edit_all(given, params, model, judge)
    report(rows, patients)


def edit_all(given: Any, params: Any, model: Any, judge: Segmenter) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return measures [N] by name, and the patient of each case."""
    anomaly, size = find_anomaly(given.anomaly), model.generator.size
    cases = read_cases(given.workspace, params).of_group("test")
    fitting = np.nonzero(cases.sources[:, structure_index(anomaly.structure)] == EXPERT)[0]
    frames = read_frames(given.workspace, params)
    images = dict(zip(frames["case_id"], frames["image"], strict=True))
    requests, kept, pictures = [], [], []
    for i in map(int, fitting[: given.limit]):
        normal = cases.layout(i)
        try:
            edited = apply_anomalies(normal, ((given.anomaly, given.severity),), generator(0, "edit", i))
        except AnomalyError:
            continue
        pictures.append(Picture(decode_png(images[str(cases.ids[i])]["bytes"])))
        region, away = changed_region(normal, edited, size), normal if given.avoid else None
        requests.append(SampleRequest(f"edit-{cases.ids[i]}", edited, pictures[-1].canvas(size), region, away))
        kept.append(i)
    changes = {k: float(v) for k, v in (item.split("=") for item in given.set)}
    asked = [replace(q, reference=None, region=None) for q in requests] if given.whole else requests
    results = list(replace(model, sampling=model.sampling.model_copy(update=changes)).stream(asked, 0))
    shown = {"before": [q.reference for q in requests], "edited, the model's size": [r.image for r in results]}
    if not given.whole:
        shown["edited, own size"] = [
            paste(picture, q.reference, r).canvas(size)
            for picture, q, r in zip(pictures, requests, results, strict=True)
        ]
    names = (anomaly.structure, "head")
    return measure(shown, cases.take(kept), [q.layout for q in requests], names, judge), patient_names(cases.take(kept))


def paste(picture: Picture, before: np.ndarray, result: SampleResult) -> Picture:
    """Return the edited picture in its own size, and make sure that it is the old one outside of the region."""
    after, where = picture.paste(before, result.image, result.region)
    if not np.array_equal(after[~where], picture.pixels[~where]):
        raise SystemExit("an image differs outside of its region")
    return Picture(after)


def measure(
    shown: dict[str, list[np.ndarray]], cases: Cases, layouts: list[Layout], names: tuple[str, str], judge: Segmenter
) -> dict[str, np.ndarray]:
    """Return what the judge sees of the first structure, against what was asked, what was there, and the second."""
    k, head = (structure_index(name) for name in names)
    asked = [rasterize(layout, cases.size).maps[k] > 0 for layout in layouts]
    before, heads = cases.masks[:, k], np.maximum(cases.masks[:, head].sum((1, 2)), 1)
    measured: dict[str, np.ndarray] = {}
    for name, pixels in shown.items():
        parts = [largest_part(seen[k]) for seen in judge.predict(np.stack(pixels)) > 0.5]
        measured[f"{name}: Dice, asked"] = np.array([dice(p, a) for p, a in zip(parts, asked, strict=True)])
        measured[f"{name}: Dice, there before"] = np.array([dice(p, b) for p, b in zip(parts, before, strict=True)])
        grown = [a & ~b for a, b in zip(asked, before, strict=True)]
        measured[f"{name}: grey level where it grew"] = np.array(
            [v[g].mean() if g.any() else np.nan for v, g in zip(pixels, grown, strict=True)]
        )
        measured[f"{name}: area seen / head, %"] = np.array([100 * p.sum() for p in parts]) / heads
    measured["area asked / head, %"] = np.array([100 * a.sum() for a in asked]) / heads
    measured["area there before / head, %"] = 100 * before.sum((1, 2)) / heads
    return measured


def report(measured: dict[str, np.ndarray], patients: np.ndarray) -> None:
    """Print means with intervals over patients."""
    print(f"{len(patients)} images of {len(set(patients))} patients")
    for name, values in measured.items():
        found = mean_interval(values, patients, 2000, generator(0, "bootstrap"))
        print(
            f"{name:<60} {found.value:8.3f}  {found.low:8.3f} to {found.high:8.3f}  median {np.nanmedian(values):.3f}"
        )


if __name__ == "__main__":
    main()
