"""What a center's files are, counted: by kind, device, description, size; and what a run over them will cost.

Every file is read in the sandbox, once: rows of files that did not change are kept between onboardings.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetalflex.dicom.sandbox import Sandbox
from fetalflex.onboarding import worker

Row = dict[str, Any]
BATCH = 64
TEXTS_SHOWN = 30


@dataclass(frozen=True)
class Census:
    """Counts over a center's files. `words`: word of our vocabulary -> images whose plane it decides.

    `unmatched` images have a description that holds none of our words, `undescribed` have none. `reasons`: why files
    cannot be used, as far as a header tells.
    """

    files: int = 0
    bytes: int = 0
    images: int = 0
    clips: int = 0
    frames: int = 0
    patients: int = 0
    annotations: int = 0
    with_region: int = 0
    with_spacing: int = 0
    with_age: int = 0
    unmatched: int = 0
    undescribed: int = 0
    words: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


def probe_files(sandbox: Sandbox, folder: Path, names: Sequence[str], center: str) -> Iterator[Row]:
    """Yield one row per file below `folder`, in the order of `names`: `name`, `bytes`, and what its header says.

    In batches, so that a file that takes the worker down costs itself only.
    """
    for start in range(0, len(names), BATCH):
        yield from _probe_batch(sandbox, folder, names[start : start + BATCH], center)


def _probe_batch(sandbox: Sandbox, folder: Path, names: Sequence[str], center: str) -> Iterator[Row]:
    from fetalflex.errors import QuarantineError

    done = 0
    while done < len(names):
        paths = [str(folder / name) for name in names[done:]]
        try:
            for row, _ in sandbox.run(worker.probe_headers, paths=paths, center=center):
                yield row | {"name": names[done], "bytes": (folder / names[done]).stat().st_size}
                done += 1
        except QuarantineError as error:  # the worker's own end: that file's fault, the others are read on
            size = (folder / names[done]).stat().st_size
            yield {"kind": "rejected", "reason": error.reason.value, "detail": error.detail,
                   "name": names[done], "bytes": size}  # fmt: skip
            done += 1


def take_census(rows: Sequence[Row]) -> Census:
    """Count the rows of a center's files."""
    images = [r for r in rows if r["kind"] == "image"]
    tables = {
        "Modality": Counter(r["modality"] for r in rows if "modality" in r),
        "Kind of object": Counter(r["storage"] for r in rows if "storage" in r),
        "Transfer syntax": Counter(r["syntax"] for r in rows if "syntax" in r),
        "Device (by our vocabulary)": Counter(r["device"] for r in images),
        "Size in pixels": Counter(f"{r['columns']} x {r['rows']}" for r in images),
        "Frames": Counter(_frames(r["frames"]) for r in images),
        "Colour": Counter(r["colour"] for r in images),
        "Burned-in annotation, as stated": Counter(r["burned"] for r in images),
    }
    return Census(
        files=len(rows), bytes=sum(r["bytes"] for r in rows), images=len(images),
        clips=sum(r["frames"] > 1 for r in images), frames=sum(r["frames"] for r in images),
        patients=len({r["patient"] for r in images}), annotations=sum(r["kind"] == "annotation" for r in rows),
        with_region=sum(r["region"] for r in images), with_spacing=sum(r["spacing"] for r in images),
        with_age=sum(r["age"] for r in images),
        unmatched=sum(r["described"] and not r["word"] for r in images),
        undescribed=sum(not r["described"] for r in images),
        words=dict(Counter(r["word"] for r in images if r["word"])),
        tables={title: dict(counts.most_common()) for title, counts in tables.items()},
        reasons=dict(Counter(r["reason"] for r in rows if r["kind"] == "rejected").most_common()),
    )  # fmt: skip


def unmatched_texts(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return the commonest descriptions that hold no word of ours. For the private page only: they are header text."""
    texts = Counter(r["text"] for r in rows if r["kind"] == "image" and r.get("text") and not r["word"])
    return texts.most_common(TEXTS_SHOWN)


def without_text(row: Row) -> Row:
    """Return a row that may be kept: no text of a header, no name of a file."""
    return {name: value for name, value in row.items() if name not in ("text", "name", "number")}


def _frames(count: int) -> str:
    return "1 (still)" if count == 1 else "2 to 30" if count <= 30 else "31 to 200" if count <= 200 else "over 200"
