"""How severe are the anomalies that a trained generator draws? Asked against measured on the judge's marks.

`python -m benchmarks.anomalies WORKSPACE --anomaly ventriculomegaly:12:18 --anomaly absent-csp --count 16` plans images
from the workspace's training cases, samples them (same layouts, same noise in every arm) and measures them. Arms: what
the guidance points away from: the null condition (`null`), the normal layout of every edit (`normal`), or that layout
only where something is to be absent (`absent`, as the stage `sample` does). For ventriculomegaly a last line per arm
says how wide the dark region is beside what was asked, by grey levels alone: no judge has a say in it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import yaml

from benchmarks.packed_measure import grey_width
from fetalflex.anatomy.editing import setting_of
from fetalflex.anatomy.layout import Layout, changed_region, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.diffusion.two_stage import SampleRequest, sample_images
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.generator import Generator
from fetalflex.params import Params, parse
from fetalflex.planning import Planned, can_show, plan_images
from fetalflex.quality.anomalies import AnomalyControl, Reading, measure_seen, seen_layout, summarise_anomalies
from tasks.cases import read_cases
from tasks.process import fix_threads
from tasks.sample import asked

ARMS = ("null", "absent", "normal")


def anomaly(text: str) -> dict[str, object]:
    """Return an entry of `sample.anomalies` from NAME or NAME:LOW:HIGH."""
    name, *bounds = text.split(":")
    return {"name": name} if not bounds else {"name": name, "severity": [float(b) for b in bounds]}


def away_from(arm: str, planned: Planned) -> bool:
    """Whether the guidance of this arm points away from the normal layout of a planned image."""
    return arm == "normal" or (arm == "absent" and bool(planned.layout.absent))


def request(arm: str, planned: Planned) -> SampleRequest:
    """Ask for a planned image in one arm."""
    return SampleRequest(
        planned.image_id,
        asked(planned.layout),
        avoided=asked(planned.normal) if planned.changes and away_from(arm, planned) else None,
    )


def readings_of(plan: list[Planned], seen: np.ndarray, names: list[str], known: tuple[str, ...]) -> list[Reading]:
    """Return the readings of planned images: their own anomalies, of normal ones all that they could show."""
    found = []
    for planned, marks in zip(plan, seen, strict=True):
        wanted = planned.changes or [(n, float("nan")) for n in names if can_show(planned.normal, [n])]
        if not wanted:  # such a layout may have nothing that tells its size
            continue
        layout, setting = seen_layout(marks, planned.normal, known), setting_of(planned.normal)
        for name, severity in wanted:
            found.append(Reading(name, planned.source_case, severity, measure_seen(name, layout, setting)))
    return found


def row(arm: str, guidance: float, control: AnomalyControl, grey: float) -> dict[str, object]:
    """Return one line of the outcome. `grey`: mean level where the asked layouts differ."""
    return {
        "arm": arm, "guidance": guidance, "anomaly": control.anomaly, "n": control.n, "known": control.known,
        "found": [round(v, 3) for v in (control.found.value, control.found.low, control.found.high)],
        "in_normal": round(control.found_in_normal, 3), "unit": control.unit,
        "off_by": [round(v, 2) for v in (control.error.value, control.error.low, control.error.high)],
        "grey": round(grey, 1),
    }  # fmt: skip


def dark_widths(arm: str, images: np.ndarray, layouts: list[Layout]) -> dict[str, object]:
    """Return how wide the dark regions are over the asked ventricles, and the grey there over the head's elsewhere."""
    ratios, greys = [], []
    for image, layout in zip(images, layouts, strict=True):
        drawn = rasterize(layout, image.shape[0]).maps > 0.5
        wanted, head = drawn[structure_index("lateral-ventricle")], drawn[structure_index("head")]
        width, found = grey_width(image, layout)
        ratios.append(found / width)
        greys.append(image[wanted].mean() / max(1.0, image[head & ~wanted].mean()))
    away = np.abs(np.array(ratios) - 1)
    return {
        "arm": arm, "n": len(ratios), "not_dark": int(np.isnan(away).sum()),
        "width": round(float(np.nanmedian(ratios)), 3),
        "within_10": round(float((away <= 0.1).mean()), 2), "within_20": round(float((away <= 0.2).mean()), 2),
        "grey": round(float(np.median(greys)), 2),
    }  # fmt: skip


def main() -> int:
    """Run the arms and print one JSON line per arm, guidance and anomaly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="folder with params.yaml, data/ and models/")
    parser.add_argument("--anomaly", action="append", required=True, help="NAME or NAME:LOW:HIGH; several times")
    parser.add_argument("--count", type=int, default=16, help="abnormal images per anomaly")
    parser.add_argument("--normal", type=int, default=16, help="normal images")
    parser.add_argument("--arm", action="append", choices=ARMS, help="default: all")
    parser.add_argument("--guidance", type=float, action="append", help="default: the workspace's")
    given = parser.parse_args()
    fix_threads(1)
    entries = [anomaly(text) for text in given.anomaly]
    values = yaml.safe_load((given.workspace / "params.yaml").read_text())
    values["sample"] |= {
        "anomalies": entries, "abnormal": given.count * len(entries), "pairs": 0, "normal": given.normal,
    }  # fmt: skip
    params = parse(values, Params, "params.yaml")
    generator, guide, judge = (
        kind.load(given.workspace / "models" / name)
        for kind, name in ((Generator, "generator"), (Segmenter, "guide"), (Segmenter, "judge"))
    )
    plan = list(plan_images(read_cases(given.workspace, params).of_group("train"), params))
    for guidance in given.guidance or [params.sample.guidance]:
        sample = params.sample.model_copy(update={"guidance": guidance})
        for arm in given.arm or ARMS:
            made = sample_images(generator, guide, [request(arm, p) for p in plan], sample, params.data.seed)
            seen = judge.predict(np.stack([m.image for m in made])) > 0.5
            readings = readings_of(plan, seen, [str(e["name"]) for e in entries], judge.trained)
            for control in summarise_anomalies(readings, [], judge.trained, bootstrap=500, seed=params.data.seed):
                levels = [
                    m.image[changed_region(p.normal, p.abnormal, generator.size)].mean()
                    for m, p in zip(made, plan, strict=True)
                    if p.abnormal is not None and p.changes[0][0] == control.anomaly
                ]
                print(json.dumps(row(arm, guidance, control, float(np.mean(levels)))), flush=True)
            wide = [i for i, p in enumerate(plan) if p.changes and p.changes[0][0] == "ventriculomegaly"]
            if wide:
                images, layouts = np.stack([made[i].image for i in wide]), [asked(plan[i].layout) for i in wide]
                print(json.dumps(dark_widths(arm, images, layouts)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
