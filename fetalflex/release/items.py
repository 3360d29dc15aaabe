"""The images of a release, shard by shard: an image with its row, its layout and the gate's verdict on it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex import tables
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.artifacts import Grey, decode_png
from fetalflex.errors import ArtifactError


@dataclass(frozen=True, eq=False)
class Item:
    """An image of a release: its row of `Synthetic`, and why the gate rejects it (None: accepted)."""

    row: Mapping[str, Any]
    rejected_for: str | None

    @property
    def image_id(self) -> str:
        """The image's name."""
        return str(self.row["image_id"])

    @property
    def split(self) -> str:
        """`accepted` or `rejected`."""
        return "accepted" if self.rejected_for is None else "rejected"

    @property
    def png(self) -> bytes:
        """The image as it lies in the dataset."""
        return bytes(self.row["image"]["bytes"])

    @cached_property
    def pixels(self) -> Grey:
        """uint8 [S, S]."""
        return decode_png(self.png)

    @cached_property
    def layout(self) -> Layout:
        """What was asked for."""
        return Layout.from_json(self.row["layout"])

    @cached_property
    def masks(self) -> dict[int, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Number of each asked structure -> bool [S, S]; a box without outline is filled."""
        maps = rasterize(self.layout, self.pixels.shape[0])
        return {int(k): maps.maps[k] > 0.5 for k in np.flatnonzero(maps.kinds) if (maps.maps[k] > 0.5).any()}


def pixels_sha256(pixels: Grey) -> str:
    """Return the SHA-256 of grey levels, row by row."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def read_items(shards: Iterable[Path], verdict: Mapping[str, Any]) -> Iterator[list[Item]]:
    """Yield the images of each shard of `data/synthetic`, with the verdict of `reports/gate.json` on each.

    Raises: ArtifactError where the gate says nothing of an image.
    """
    accepted = set(verdict["images"]["accepted"])
    rejected = {item["image_id"]: str(item["reason"]) for item in verdict["images"]["rejected"]}
    for shard in sorted(shards):
        rows = tables.read_shards([shard], tables.Synthetic).iter_rows(named=True)
        yield [_item(row, accepted, rejected) for row in rows]


def _item(row: dict[str, Any], accepted: set[str], rejected: dict[str, str]) -> Item:
    name = row["image_id"]
    if name not in accepted and name not in rejected:
        raise ArtifactError(f"image {name}: reports/gate.json says nothing of it; run 'fetalflex run' before a release")
    return Item(row, None if name in accepted else rejected[name])
