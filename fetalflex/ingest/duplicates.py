"""Which frames are the same picture: equal pixels, or nearly equal ones, within and across patients and centers.

Near duplicates are proposed by the perceptual hash (an exact search over all pairs, by bits) and confirmed on the
pixels (`alike`): a hash alone ties different heads. Mirrored copies are not looked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fetalflex.artifacts import decode_png
from fetalflex.ingest.alike import compare, thumbnail
from fetalflex.tables import Duplicates

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
Thumbnails = Callable[[Numbers], npt.NDArray[np.uint8]]
ROWS, COLUMNS = 1024, 8192  # hashes compared at a time: the differences stay in the processor's cache
BATCH = 16  # pairs looked at together, constant so that a pair's figure does not depend on its company
KEPT = 4096  # thumbnails held at a time (9 KiB each)


@dataclass(frozen=True)
class Limits:
    """What counts as the same picture: at most `distance` of 64 bits differ, and the detail correlates `correlation`.

    Calibrated on 1,989 public images (docs/results.md): pairs of one picture in other sizes, grey maps or
    compressions reach 0.75 and more, those of different pictures 0.45 at most.
    """

    distance: int = 12
    correlation: float = 0.6


def find_duplicates(frames: pl.DataFrame, limits: Limits = Limits()) -> pl.DataFrame:
    """Return the pairs of frames (schema `tables.Frames`) that are one picture, as a table `tables.Duplicates`.

    Frames of equal pixels are tied to the first of them (by case id), and near duplicates are sought among these
    first ones: so k copies give k - 1 pairs.
    """
    ordered = frames.select("case_id", "center", "patient", "pixels", "phash", "image").sort("case_id")
    numbered = ordered.with_row_index("number").with_columns(pl.col("number").min().over("pixels").alias("first"))
    first, number = (numbered[name].to_numpy().astype(np.int64) for name in ("first", "number"))
    copies = number[first != number]
    unique = number[first == number]
    hashes = np.array([int(text, 16) for text in ordered["phash"].gather(unique)], np.uint64)
    pictures = ordered["image"].struct.field("bytes")
    load = _Loader(lambda n: decode_png(pictures[int(n)]))
    rows = [("exact", first[n], n, 0, 1.0) for n in copies]
    for i, j, distance, correlation in _near(hashes, lambda numbers: load(unique[numbers]), limits):
        rows.append(("near", unique[i], unique[j], distance, correlation))
    return _table(ordered, rows)


def close_pairs(hashes: Hashes, distance: int) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Yield (i, j, bits that differ) of all pairs i < j of 64-bit hashes with at most `distance` differing bits.

    All pairs are compared: at 12 of 64 bits no index (bands, BK-tree) leaves enough of them out to pay.
    """
    for top in range(0, len(hashes), ROWS):
        block = hashes[top : top + ROWS, None]
        for left in range(top, len(hashes), COLUMNS):
            bits = np.bitwise_count(block ^ hashes[None, left : left + COLUMNS])
            place = np.flatnonzero(bits <= distance)
            if not len(place):
                continue
            i, j = np.divmod(place, bits.shape[1])
            found, i, j = bits.ravel()[place].astype(np.int64), i + top, j + left
            upper = i < j
            if upper.any():
                yield i[upper], j[upper], found[upper]


def _near(hashes: Hashes, thumbnails: Thumbnails, limits: Limits) -> Iterator[tuple[int, int, int, float]]:
    """Yield (i, j, distance, correlation) of the pairs that the pixels confirm."""
    pending: list[tuple[Numbers, Numbers, Numbers]] = []
    for found in close_pairs(hashes, limits.distance):
        pending.append(found)
        if sum(len(part[0]) for part in pending) >= BATCH * 16:
            yield from _confirm(pending, thumbnails, limits.correlation)
            pending = []
    yield from _confirm(pending, thumbnails, limits.correlation)


def _confirm(
    pending: list[tuple[Numbers, Numbers, Numbers]], thumbnails: Thumbnails, least: float
) -> Iterator[tuple[int, int, int, float]]:
    if not pending:
        return
    i, j, distance = (np.concatenate(parts) for parts in zip(*pending, strict=True))
    for start in range(0, len(i), BATCH):
        a, b = i[start : start + BATCH], j[start : start + BATCH]
        likeness = compare(thumbnails(a), thumbnails(b))
        for k in np.nonzero(likeness.correlation >= least)[0]:
            yield int(a[k]), int(b[k]), int(distance[start + k]), float(likeness.correlation[k])


class _Loader:
    """Thumbnails of frames by number, the latest ones kept."""

    def __init__(self, read: Callable[[int], npt.NDArray[np.uint8]]) -> None:
        self._read = read
        self._kept: dict[int, npt.NDArray[np.uint8]] = {}

    def __call__(self, numbers: Numbers) -> npt.NDArray[np.uint8]:
        return np.stack([self._one(int(n)) for n in numbers])

    def _one(self, number: int) -> npt.NDArray[np.uint8]:
        if number not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = thumbnail(self._read(number))
        return self._kept[number]


def _table(ordered: pl.DataFrame, rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    ids, centers, patients = (ordered[name].to_list() for name in ("case_id", "center", "patient"))
    found = [
        {
            "case_a": ids[a], "case_b": ids[b], "kind": kind, "distance": distance,
            "correlation": round(correlation, 4), "same_center": centers[a] == centers[b],
            "same_patient": centers[a] == centers[b] and patients[a] == patients[b],
        }
        for kind, a, b, distance, correlation in rows
    ]  # fmt: skip
    schema = {name: pl.String() if isinstance(kind, pl.Enum) else kind
              for name, kind in Duplicates.create_empty().schema.items()}  # fmt: skip
    return Duplicates.validate(pl.DataFrame(found, schema=schema).sort("case_a", "case_b"), cast=True)
