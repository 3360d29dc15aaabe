"""A new center's trial beside the centers that the workspace already has: copies, planes, simple statistics."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fetalflex import tables
from fetalflex.artifacts import decode_png
from fetalflex.ingest.duplicates import Limits, find_duplicates
from fetalflex.onboarding.page import Copies, Estimate
from fetalflex.onboarding.probe import Census
from fetalflex.onboarding.shift import Shift, compare, count_planes
from fetalflex.onboarding.trial import DARK, Trial
from fetalflex.params import Params

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]
SAMPLE = 300  # frames of each center that a trial is compared with; case ids are hashes, so the first are a fair sample


def _shards(root: Path, params: Params, center: str) -> list[Path]:
    return sorted((root / "data" / params.ingest.centers[center] / center).glob("frames-*.parquet"))


def read_centers(root: Path, params: Params, *, without: str) -> dict[str, list[Row]]:
    """Return a sample of the frames of each center that was ingested, with the share of each that is lit."""
    found = {}
    for center in params.ingest.centers:
        paths = _shards(root, params, center)
        if center == without or not paths:
            continue
        rows = pl.scan_parquet(paths).sort("case_id").head(SAMPLE).collect().to_dicts()
        found[center] = [r | {"sector": 100 * float((decode_png(r["image"]["bytes"]) > DARK).mean())} for r in rows]
    return found


def shifts(trial: Trial, others: Rows) -> list[Shift]:
    """Return every measure of the trial's frames against the other centers."""
    return compare(trial.frames, others)


def planes(trial: Trial, others: Rows) -> dict[str, dict[str, int]]:
    """Return plane -> (center or `new` -> frames)."""
    return count_planes(trial.frames, others)


def find_copies(root: Path, params: Params, trial: Trial, rows: Sequence[Row], contents: Sequence[str]) -> Copies:
    """Return what is there twice: among the new files by bytes and stored pixels, and trial frames against all centers.

    `contents`: keyed hashes of all files' bytes.
    """
    patients: dict[str, set[str]] = defaultdict(set)
    images: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["kind"] == "image":
            patients[row["pixels"]].add(row["patient"])
            images[row["pixels"]] += 1
    shared = [pixels for pixels, who in patients.items() if len(who) > 1]
    pairs = _pairs(root, params, trial)
    return Copies(
        equal_files=len(contents) - len(set(contents)),
        equal_images=sum(n - 1 for n in images.values() if n > 1),
        shared_images=len(shared),
        tied_patients=len(set().union(*(patients[p] for p in shared))) if shared else 0,
        pairs=tuple(pairs),
    )


def _pairs(root: Path, params: Params, trial: Trial) -> list[tuple[str, str, bool]]:
    """Return (kind, other center, same patient) of pairs that hold a trial frame."""
    if not trial.frames:
        return []
    columns = list(tables.Frames.create_empty().columns)
    new = pl.DataFrame([{c: r[c] for c in columns} for r in trial.frames], schema=tables.Frames.create_empty().schema)
    near = [new]
    hashes = np.array([int(h, 16) for h in new["phash"]], np.uint64)
    for center in params.ingest.centers:
        paths = _shards(root, params, center)
        if not paths:
            continue
        known = pl.scan_parquet(paths).select("case_id", "phash").collect()
        theirs = np.array([int(h, 16) for h in known["phash"]], np.uint64)
        close = (np.bitwise_count(theirs[:, None] ^ hashes[None]) <= Limits().distance).any(axis=1)
        ids = set(known["case_id"].filter(pl.Series(close))) - set(new["case_id"])
        near.append(pl.scan_parquet(paths).filter(pl.col("case_id").is_in(sorted(ids))).select(columns).collect())
    frames = pl.concat(near, how="vertical")
    centers = dict(zip(frames["case_id"], frames["center"], strict=True))
    mine = set(new["case_id"])
    found = []
    for pair in find_duplicates(frames).to_dicts():
        if {pair["case_a"], pair["case_b"]} & mine:
            other = pair["case_b"] if pair["case_a"] in mine else pair["case_a"]
            found.append((str(pair["kind"]), centers[other], bool(pair["same_patient"])))
    return found


def estimate(census: Census, trial: Trial) -> Estimate:
    """Return what ingesting all images will take, from what the trial took."""
    if not trial.files:
        return Estimate(None, None, census.bytes)
    share = census.images / trial.files
    return Estimate(trial.seconds * share, round(trial.stored_bytes * share), census.bytes)
