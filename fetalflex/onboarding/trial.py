"""A trial of some cases: what ingest would make of them, and what de-identification does to them, before and after.

The cases are chosen so that every device and every kind of description is seen before one is seen twice.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex import rng
from fetalflex.artifacts import decode_png
from fetalflex.deid.keys import PseudonymKey
from fetalflex.dicom.sandbox import Budget, Sandbox
from fetalflex.errors import QuarantineError
from fetalflex.ingest.bucket import ingest_bucket, scan
from fetalflex.onboarding import worker
from fetalflex.onboarding.words import plane_of
from fetalflex.params import Center, Ingest

Row = dict[str, Any]
Pixels = npt.NDArray[np.uint8]
# Reading text takes a recogniser's memory and time beside a file's own.
PREVIEW = Budget(memory_bytes=1536 * 2**20, message_s=120.0)
DARK = 12  # grey levels: above it a pixel counts as lit


@dataclass(frozen=True, eq=False)
class Preview:
    """One case before and after: pictures [H, W, 3], what was marked (boxes in their pixels), attributes.

    `before` shows identifiers. `blanked`: share of the screen. `changes`: one row per attribute and outcome. `reason`:
    why the case cannot be shown, then there are no pictures.
    """

    number: int
    device: str
    word: str
    plane: str
    before: Pixels | None = None
    after: Pixels | None = None
    blanked: float = 0.0
    marks: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()
    changes: tuple[Row, ...] = ()
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Trial:
    """What the trial found. `frames`, `annotations`, `quarantine`: the rows that ingest makes of its files.

    `stored_bytes` and `seconds`: what ingest alone took for them.
    """

    files: int
    previews: tuple[Preview, ...] = ()
    frames: tuple[Row, ...] = ()
    annotations: int = 0
    quarantine: dict[str, int] = field(default_factory=dict)
    stored_bytes: int = 0
    seconds: float = 0.0


def choose_cases(rows: Sequence[Row], count: int, seed: int = 0) -> list[Row]:
    """Return at most `count` images, spread over devices, words and kinds; among equals by a hash, so not the first.

    The order of `rows` does not matter.
    """
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: rng.derive_seed(seed, "trial", str(r["name"]))):
        if row["kind"] == "image":
            groups[row["device"], row["word"], row["frames"] > 1, row["colour"], row["spacing"]].append(row)
    order = sorted(groups, key=lambda g: (-len(groups[g]), str(g)))
    chosen: list[Row] = []
    while len(chosen) < count and any(groups.values()):
        for group in order:
            if groups[group] and len(chosen) < count:
                chosen.append(groups[group].pop(0))
    return chosen


def link_cases(staging: Path, folder: Path, chosen: Sequence[Row], rows: Sequence[Row]) -> None:
    """Link the chosen files, and the annotations that refer to them, into a folder of their own by number."""
    wanted = {r["uid"] for r in chosen if r.get("uid")}
    objects = [r for r in rows if r["kind"] == "annotation" and wanted & set(r.get("refers", ()))]
    folder.mkdir(mode=0o700)
    for number, row in enumerate([*chosen, *objects]):
        (folder / f"{number:04d}.dcm").hardlink_to(staging / row["name"])


def run_trial(
    folder: Path, center: str, profile: Center, params: Ingest, key: PseudonymKey, chosen: Sequence[Row]
) -> Trial:
    """Ingest a trial's folder as the stage would, and look at each case before and after."""
    started = time.monotonic()
    result = ingest_bucket(scan(folder, key), 0, 1, center, profile, params, key)
    seconds = time.monotonic() - started
    with Sandbox(PREVIEW, key, preload=(worker.__name__,)) as sandbox:
        previews = tuple(_previews(sandbox, folder, center, profile, chosen))
    counts: dict[str, int] = defaultdict(int)
    for row in result.quarantine:
        counts[row["reason"]] += 1
    frames = tuple(_measured(row) for row in result.frames)
    stored = sum(len(r["image"]["bytes"]) for r in result.frames)
    stored += sum(len(r["mask"]["bytes"]) for r in result.annotations if r["mask"])
    return Trial(len(chosen), previews, frames, len(result.annotations), dict(counts), stored, seconds)


def _named(row: Row, profile: Center) -> tuple[str, str, str]:
    """Return device, word and plane of a case: by the profile where it has that word, else by the vocabulary."""
    return row["device"], row["word"], profile.planes.get(row["word"], plane_of(row["word"]))


def _measured(row: Row) -> Row:
    """Return a frame's row with the share of it that is lit (percent)."""
    return row | {"sector": 100 * float((decode_png(row["image"]["bytes"]) > DARK).mean())}


def _previews(sandbox: Sandbox, folder: Path, center: str, profile: Center, chosen: Sequence[Row]) -> Iterator[Preview]:
    said = profile.model_dump(mode="json")
    for number, row in enumerate(chosen):
        path = str(folder / f"{number:04d}.dcm")
        try:
            ((found, (before, after)),) = sandbox.run(worker.preview, path=path, center=center, profile=said)
        except QuarantineError as error:
            yield Preview(number, *_named(row, profile), reason=error.reason.value, detail=error.detail)
            continue
        yield Preview(
            number, *_named(row, profile), before, after,
            found["blanked"], tuple((k, tuple(b)) for k, b in found["marks"]),
            tuple(found["changes"]),
        )  # fmt: skip
