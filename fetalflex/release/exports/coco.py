"""COCO with PNG: `images/`, and one file of annotations per split.

Source: cocodataset.org/#format-data. Masks are compressed run lengths, as `fetalflex.anatomy.coco` reads them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy.ontology import STRUCTURES
from fetalflex.artifacts import atomic
from fetalflex.release.items import Item

Mask = npt.NDArray[np.bool_]


class CocoWriter:
    """Collects annotations while images are written; `close` writes `accepted.json` and `rejected.json`."""

    def __init__(self, folder: Path, about: str) -> None:
        """`about`: one line of text for the files' `info`."""
        self._folder = folder
        self._files: dict[str, dict[str, Any]] = {
            split: {
                "info": {"description": about},
                "licenses": [],
                "categories": [
                    {"id": n, "name": s.name, "supercategory": "fetal anatomy", "code": f"{s.scheme}:{s.code}"}
                    for n, s in enumerate(STRUCTURES, 1)
                ],
                "images": [],
                "annotations": [],
            }
            for split in ("accepted", "rejected")
        }
        self._number = 0

    def add(self, items: Sequence[Item]) -> None:
        """Write PNG files and note their annotations."""
        for item in items:
            self._number += 1
            with atomic(self._folder / "images" / f"{item.image_id}.png") as partial:
                partial.write_bytes(item.png)
            into = self._files[item.split]
            into["images"].append(_image(item, self._number))
            for structure, mask in item.masks.items():
                into["annotations"].append(_annotation(self._number, structure, mask))

    def close(self) -> None:
        """Write the annotations."""
        for split, value in self._files.items():
            for number, annotation in enumerate(value["annotations"], 1):
                annotation["id"] = number
            with atomic(self._folder / f"{split}.json") as partial:
                partial.write_text(json.dumps(value, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _image(item: Item, number: int) -> dict[str, Any]:
    row, size = item.row, item.pixels.shape
    found = {"id": number, "file_name": f"{item.image_id}.png", "height": size[0], "width": size[1]}
    names = ("kind", "pair_id", "plane", "center", "age_weeks", "anomaly", "severity", "severity_unit")
    more = {name: row[name] for name in (*names, "second_anomaly", "second_severity", "second_severity_unit")}
    if item.rejected_for is not None:
        more["rejected_for"] = item.rejected_for
    return found | more


def _annotation(image: int, structure: int, mask: Mask) -> dict[str, Any]:
    ys, xs = np.nonzero(mask)
    x0, y0 = int(xs.min()), int(ys.min())
    return {
        "image_id": image,
        "category_id": structure + 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [x0, y0, int(xs.max()) + 1 - x0, int(ys.max()) + 1 - y0],
        "segmentation": {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": encode_runs(runs_of(mask))},
    }


def runs_of(mask: Mask) -> list[int]:
    """Return the run lengths of outside and inside in turn, down the columns, the first of outside.

    >>> runs_of(np.array([[True, False], [True, True]]))
    [0, 2, 1, 1]
    """
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(v) for v in np.diff(np.concatenate([[0], edges, [mask.size]]))]


def encode_runs(runs: Sequence[int]) -> str:
    """Return COCO's compressed form of run lengths: the inverse of `fetalflex.anatomy.coco.decode_runs`."""
    letters = []
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr((bits | (32 if more else 0)) + 48))
    return "".join(letters)
