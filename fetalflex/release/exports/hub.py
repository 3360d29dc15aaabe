"""Parquet for the Hugging Face hub: `datasets.load_dataset("FOLDER")` opens the folder, the hub's viewer shows it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex import tables
from fetalflex.artifacts import picture
from fetalflex.release.items import Item
from fetalflex.release.tables import HubImages

SPLITS = ("accepted", "rejected")
_COPIED = tuple(n for n in HubImages.column_names() if n not in ("labels", "rejected_for"))


def write_hub_shard(folder: Path, number: int, items: Sequence[Item]) -> None:
    """Write one shard of the dataset as `data/accepted-NN.parquet` and `data/rejected-NN.parquet`."""
    for split in SPLITS:
        chosen = [item for item in items if item.split == split]
        if chosen:
            tables.write_shard(folder / "data" / f"{split}-{number:02d}.parquet", map(_row, chosen), HubImages)


def _row(item: Item) -> dict[str, Any]:
    shown = picture(label_map(item), f"{item.image_id}-labels")
    return {name: item.row[name] for name in _COPIED} | {"labels": shown, "rejected_for": item.rejected_for}


def label_map(item: Item) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return uint8 [S, S]: 1 + the number of the smallest asked structure at a pixel, 0 where there is none."""
    labels = np.zeros(item.pixels.shape, np.uint8)
    for number, mask in sorted(item.masks.items(), key=lambda pair: (-int(pair[1].sum()), pair[0])):
        labels[mask] = number + 1
    return labels
