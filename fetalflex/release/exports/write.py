"""All forms of a release, written in one pass over its shards."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetalflex import tables
from fetalflex.release.exports.coco import CocoWriter
from fetalflex.release.exports.dicom import write_dicom
from fetalflex.release.exports.hub import write_hub_shard
from fetalflex.release.items import Item, pixels_sha256, read_items
from fetalflex.release.sheet import Sheet
from fetalflex.release.tables import ReleasedImages

TABLE, SHEET = "images.parquet", "samples.png"


@dataclass
class Counts:
    """What was written: images by split, kind, plane, anomaly and center."""

    by_split: Counter[str]
    by_kind: Counter[str]
    by_plane: Counter[str]
    by_anomaly: Counter[str]
    by_center: Counter[str]

    @property
    def total(self) -> int:
        """All images."""
        return sum(self.by_split.values())


def write_exports(
    folder: Path, shards: list[Path], verdict: Mapping[str, Any], model: str, about: str
) -> Iterator[Counts]:
    """Write `huggingface/`, `coco/`, `dicom/`, `images.parquet` and `samples.png` into `folder`, shard by shard.

    Yields the counts so far after every shard; memory holds one shard and the annotations of COCO. `model`: SHA-256 of
    the weights. Raises: ArtifactError for damaged shards, or images of which the gate says nothing.
    """
    coco, sheet = CocoWriter(folder / "coco", about), Sheet()
    rows: list[dict[str, Any]] = []
    counts = Counts(*(Counter() for _ in range(5)))
    for number, items in enumerate(read_items(shards, verdict)):
        write_hub_shard(folder / "huggingface", number, items)
        coco.add(items)
        for item in items:
            rows.append(_row(item) | write_dicom(folder / "dicom", item, len(rows), model))
            _count(counts, item)
            sheet.offer(item)
        yield counts
    coco.close()
    tables.write_shard(folder / TABLE, rows, ReleasedImages)
    (folder / SHEET).write_bytes(sheet.png())


def _row(item: Item) -> dict[str, Any]:
    names = ("image_id", "kind", "plane", "center", "source_case")
    return {name: item.row[name] for name in names} | {
        "accepted": item.rejected_for is None,
        "reason": item.rejected_for,
        "sha256": hashlib.sha256(item.png).hexdigest(),
        "pixels": pixels_sha256(item.pixels),
    }


def _count(counts: Counts, item: Item) -> None:
    counts.by_split[item.split] += 1
    counts.by_kind[item.row["kind"]] += 1
    counts.by_plane[item.row["plane"]] += 1
    counts.by_center[item.row["center"]] += 1
    for name in (item.row["anomaly"], item.row["second_anomaly"]):
        if name is not None:
            counts.by_anomaly[name] += 1
