"""How well an edit shows: what the judge sees on edited real test images, in the model's size and in their own.

For every test case that shows what the anomaly needs, outlined by experts: the anomaly is edited into their layout, and
only the region is made anew. The judge, trained on other patients, then measures the anomaly's structure (Dice with the
asked outline, and its area over the head's) on the image before, on the edited image in the model's size, and on the
edited image in its own size, brought to the model's size again.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex.anatomy.anomalies import apply_anomalies, find_anomaly
from fetalflex.anatomy.layout import rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.artifacts import decode_png
from fetalflex.dataset import EXPERT
from fetalflex.diffusion.agreement import dice
from fetalflex.diffusion.two_stage import SampleRequest
from fetalflex.errors import AnomalyError
from fetalflex.masks.segmenter import Segmenter, largest_part
from fetalflex.quality.bootstrap import mean_interval
from fetalflex.rng import generator
from fetalflex.synthesis.models import open_model
from fetalflex.synthesis.picture import Picture
from fetalflex.synthesis.requests import changed
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
    parser.add_argument("--guidance", type=float, help="instead of the workspace's own")
    given = parser.parse_args()
    params = load_params(given.workspace)
    pipeline = open_model(given.workspace / "models", params.sample)
    judge = Segmenter.load(given.workspace / "models" / "judge")
    rows, patients = edit_all(given, params, pipeline, judge)
    report(rows, patients)


def edit_all(given: Any, params: Any, pipeline: Any, judge: Segmenter) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return measures [N] by name, and the patient of each case."""
    anomaly, size = find_anomaly(given.anomaly), pipeline.generator.size
    k = structure_index(anomaly.structure)
    cases = read_cases(given.workspace, params).of_group("test")
    fitting = np.nonzero(cases.sources[:, k] == EXPERT)[0]
    frames = read_frames(given.workspace, params)
    images = dict(zip(frames["case_id"], frames["image"], strict=True))
    requests, kept, pictures = [], [], []
    for i in fitting[: given.limit]:
        normal = cases.layout(int(i))
        try:
            edited = apply_anomalies(normal, ((given.anomaly, given.severity),), generator(0, "edit", int(i)))
        except AnomalyError:
            continue
        picture = Picture(decode_png(images[str(cases.ids[i])]["bytes"]))
        region = changed(normal, edited, size)
        away = normal if given.avoid else None
        requests.append(SampleRequest(f"edit-{cases.ids[i]}", edited, picture.canvas(size), region, away))
        kept.append(int(i))
        pictures.append(picture)
    changes = {} if given.guidance is None else {"guidance": given.guidance}
    results = list(pipeline.stream(requests, 0, pipeline.sampling.model_copy(update=changes)))
    pasted = [p.paste(q.reference, r.image, r.region) for p, q, r in zip(pictures, requests, results, strict=True)]
    for (after, where), picture in zip(pasted, pictures, strict=True):
        if not np.array_equal(after[~where], picture.pixels[~where]):
            raise SystemExit("an image differs outside of its region")
    shown = {
        "before": np.stack([q.reference for q in requests]),
        "edited, the model's size": np.stack([r.image for r in results]),
        "edited, own size": np.stack([Picture(after).canvas(size) for after, _ in pasted]),
    }
    measured: dict[str, np.ndarray] = {}
    head = structure_index("head")
    for name, pixels in shown.items():
        seen = judge.predict(pixels) > 0.5
        parts = [largest_part(s[k]) for s in seen]
        asked = [rasterize(q.layout, size).maps[k] > 0 for q in requests]
        before = [cases.masks[i, k] for i in kept]
        heads = [max(int(cases.masks[i, head].sum()), 1) for i in kept]
        measured[f"{name}: Dice with what was asked"] = np.array(
            [dice(p, a) for p, a in zip(parts, asked, strict=True)]
        )
        measured[f"{name}: Dice with the outline before"] = np.array(
            [dice(p, b) for p, b in zip(parts, before, strict=True)]
        )
        measured[f"{name}: seen area / asked area"] = np.array(
            [p.sum() / max(int(a.sum()), 1) for p, a in zip(parts, asked, strict=True)]
        )
        measured[f"{name}: seen area / head, percent"] = np.array(
            [100 * p.sum() / h for p, h in zip(parts, heads, strict=True)]
        )
    measured["asked area / head, percent"] = np.array([100 * a.sum() / h for a, h in zip(asked, heads, strict=True)])
    return measured, patient_names(cases.take(kept))


def report(measured: dict[str, np.ndarray], patients: np.ndarray) -> None:
    """Print means with intervals over patients."""
    print(f"{len(patients)} images of {len(set(patients))} patients")
    for name, values in measured.items():
        found = mean_interval(values, patients, 2000, generator(0, "bootstrap"))
        print(f"{name:<60} {found.value:8.3f}  {found.low:8.3f} to {found.high:8.3f}  median {np.median(values):.3f}")


if __name__ == "__main__":
    main()
