"""A handful of images with layouts, verdicts and shards, as a run leaves them."""

from pathlib import Path
from typing import Any

import numpy as np

from fetalflex import tables
from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.artifacts import picture, write_json

SIZE = 32
NAMES = tuple(f"{k}00000000000000{n}" for n, k in enumerate("abcd"))


def layout() -> Layout:
    head, ventricle = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)
    head[4:28, 3:29] = True
    ventricle[10:14, 8:16] = True
    return Layout(
        "transventricular", "image", 1.0,
        (
            LayoutObject("head", (3 / 32, 4 / 32, 29 / 32, 28 / 32), mask=head),
            LayoutObject("lateral-ventricle", (8 / 32, 10 / 32, 16 / 32, 14 / 32), mask=ventricle),
            LayoutObject("csp", (0.5, 0.5, 0.6, 0.6)),
        ),
        center="near",
    )  # fmt: skip


def row(name: str, kind: str = "normal", **more: Any) -> dict[str, Any]:
    grey = np.random.default_rng(ord(name[0])).integers(0, 255, (SIZE, SIZE), np.uint8)
    blank = {f"{p}{k}": None for p in ("", "second_") for k in ("anomaly", "severity", "severity_unit")}
    text = layout().to_json()
    return {
        "image_id": name, "image": picture(grey, name), "coarse": picture(grey, name), "kind": kind, "pair_id": None,
        "region": None, "plane": "transventricular", "center": "near", "age_weeks": None, "age_derived": False,
        "layout_source": "varied", "layout_normal": None, "layout": text, "layout_adapted": text,
        "source_case": "case", "seed": 1, "evaluations": 12, "agreement": 0.9,
    } | blank | more  # fmt: skip


def verdict(rejected: dict[str, str]) -> dict[str, Any]:
    """A gate's verdict on `NAMES`: all but those in `rejected` are accepted."""
    return {
        "passed": True,
        "criteria": [],
        "images": {
            "accepted": [n for n in NAMES if n not in rejected],
            "rejected": [{"image_id": n, "reason": r} for n, r in rejected.items()],
        },
    }


def write_dataset(root: Path, rejected: dict[str, str] | None = None) -> dict[str, Any]:
    """Write `data/synthetic` in two shards and `reports/gate.json`; return the verdict."""
    rows = [row(NAMES[0]), row(NAMES[1]), row(NAMES[2], "abnormal", anomaly="ventriculomegaly", severity=14.0,
            severity_unit="mm"), row(NAMES[3])]  # fmt: skip
    for number in (0, 1):
        path = root / "data" / "synthetic" / f"images-{number:02d}.parquet"
        tables.write_shard(path, rows[2 * number : 2 * number + 2], tables.Synthetic)
    found = verdict(rejected or {})
    write_json(root / "reports" / "gate.json", found)
    return found
