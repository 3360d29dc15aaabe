"""Can the judge see an anomaly that is really there? It has learnt normal anatomy alone.

`python -m benchmarks.judge_on_abnormal WORKSPACE [--phantom 12]` measures anomalies on the judge's marks in images that
are known to be abnormal, so that a low `found` of synthetic images can be told from a judge that is blind to it: the
public set of abnormal brains (FETALFLEX_DATA; names of anomalies, no severities), and scenes of the phantom with a
known severity, which no center holds. Nothing learns from either.
"""

import argparse
import csv
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from fetalflex.anatomy.anomalies import ANOMALIES
from fetalflex.anatomy.editing import Setting, setting_of
from fetalflex.anatomy.layout import Layout
from fetalflex.dataset import to_canvas
from fetalflex.errors import AnomalyError
from fetalflex.masks.segmenter import Segmenter
from fetalflex.params import Params, read_params
from fetalflex.phantom.acoustics import image_scene
from fetalflex.phantom.devices import device
from fetalflex.phantom.scene import make_scene
from fetalflex.quality.anomalies import is_known, measure_seen, seen_layout
from fetalflex.rng import generator

SEVERITIES = {
    "ventriculomegaly": 14.0, "microcephaly": -4.0, "absent-csp": 1.0, "absent-stomach": 1.0, "cardiomegaly": 0.65,
    "short-femur": -4.0,
}  # fmt: skip


def public_images(folder: Path) -> list[tuple[str, np.ndarray]]:
    """Return (named anomaly, grey pixels [H, W]) of the public abnormal brains."""
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [(r["anomaly"], np.asarray(Image.open(folder / "images" / r["image_name"]).convert("L"))) for r in rows]


def measure_public(judge: Segmenter, folder: Path, size: int) -> list[dict[str, object]]:
    """Return per named anomaly how wide the ventricle is on the judge's marks; the head tells the scale (22 weeks)."""
    images = public_images(folder)
    seen = judge.predict(np.stack([to_canvas(pixels, size) for _, pixels in images])) > 0.5
    widths: dict[str, list[float]] = defaultdict(list)
    for (name, _), marks in zip(images, seen, strict=True):
        layout = seen_layout(marks, Layout("brain", "image", 1.0, ()), judge.trained)
        try:
            widths[name].append(measure_seen("ventriculomegaly", layout, setting_of(layout)))
        except AnomalyError:  # no head, no scale
            widths[name].append(float("nan"))
    reached = ANOMALIES["ventriculomegaly"].is_reached
    return [
        {
            "set": "public", "named": name, "n": len(values), "measured": int(np.isfinite(values).sum()),
            "median_mm": round(float(np.nanmedian(values)), 1) if np.isfinite(values).any() else None,
            "found": sum(map(reached, values)),
        }
        for name, values in sorted(widths.items())
    ]  # fmt: skip


def measure_phantom(judge: Segmenter, size: int, count: int) -> list[dict[str, object]]:
    """Return per anomaly what the judge measures in scenes of a known severity, and in the normal ones beside them."""
    rows = []
    for name, severity in SEVERITIES.items():
        if not is_known(name, judge.trained):
            continue
        plane = ANOMALIES[name].planes[0]
        found: dict[str, list[float]] = {"abnormal": [], "normal": []}
        for number in range(count):
            weeks = 20.0 + 10.0 * number / max(count - 1, 1)
            for kind, change in (("abnormal", (name, severity)), ("normal", None)):
                random = generator(number, "judge on abnormal", name)
                picture = image_scene(make_scene(plane, weeks, random, change), device("curved-a"), random)
                x0, y0, x1, y1 = picture.region
                pixels = picture.pixels[y0:y1, x0:x1]
                layout = Layout(plane, "mm", picture.spacing_mm * max(pixels.shape), ())
                marks = judge.predict(to_canvas(pixels, size)[None])[0] > 0.5
                measured = measure_seen(name, seen_layout(marks, layout, judge.trained), Setting(1.0, weeks))
                found[kind].append(measured)
        reached = ANOMALIES[name].is_reached
        off = np.array(found["abnormal"]) - severity
        rows.append(
            {
                "set": "phantom", "anomaly": name, "asked": severity, "unit": ANOMALIES[name].unit, "n": count,
                "found": sum(map(reached, found["abnormal"])), "in_normal": sum(map(reached, found["normal"])),
                "off_by": round(float(np.nanmedian(off)), 2) if np.isfinite(off).any() else None,
            }
        )  # fmt: skip
    return rows


def main() -> int:
    """Print one JSON line per set and anomaly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, help="folder with params.yaml and models/judge")
    parser.add_argument("--phantom", type=int, default=0, help="scenes of the phantom per anomaly")
    given = parser.parse_args()
    params: Params = read_params(given.workspace / "params.yaml")
    judge, size = Segmenter.load(given.workspace / "models" / "judge"), params.data.image_size
    data = Path(os.environ.get("FETALFLEX_DATA", "")) / "abnormal_brain"
    rows = measure_public(judge, data, size) if (data / "labels.csv").is_file() else []
    for line in rows + (measure_phantom(judge, size, given.phantom) if given.phantom else []):
        print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
