"""What lies in a center's folder: images, the annotations that refer to them, and what is neither; and its manifest.

One pass over the headers, in a fixed order, in a worker process: nothing of a raw file is parsed here.
Everything is named by keyed hashes: `file_id` of the path (so that the owner of the key can find the file),
`content_id` of the bytes (so that renaming a file changes no case).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.dicom.sandbox import Sandbox
from fetalflex.errors import QuarantineError, Reason
from fetalflex.ingest import worker
from fetalflex.ingest.manifest import file_id_of, files_of, is_foreign

BATCH = 64  # files to a request: a worker need not wait for this process between them


@dataclass(frozen=True)
class SourceFile:
    """One raw file: its path relative to the center's folder, its keyed ids, its SOP Instance UID."""

    path: str
    file_id: str
    content_id: str
    uid: str


@dataclass(frozen=True)
class Rejected:
    """One row of the quarantine table."""

    file_id: str
    reason: str
    detail: str

    @staticmethod
    def of(file_id: str, error: QuarantineError) -> "Rejected":
        """Return the row of a file that raised `error`."""
        return Rejected(file_id, error.reason.value, error.detail)


@dataclass(frozen=True)
class Inventory:
    """All files of a center, sorted by content. `annotations`: image UID -> the objects that refer to it."""

    folder: Path
    images: tuple[SourceFile, ...]
    annotations: Mapping[str, tuple[SourceFile, ...]]
    rejected: tuple[Rejected, ...]


def scan(folder: Path, key: PseudonymKey) -> Inventory:
    """Read every header below `folder` once.

    Of files with equal bytes, one counts; of files with equal UID and other bytes too, whichever comes first by
    content, so that names decide nothing. Links that lead out of the folder are refused, not followed.
    Raises: SourceError where the folder is missing or holds no file.
    """
    images: list[SourceFile] = []
    objects: list[tuple[SourceFile, tuple[str, ...]]] = []
    rejected: list[Rejected] = []
    seen: set[str] = set()
    for relative, found in _inspect_all(folder):
        file_id = file_id_of(key, relative)
        try:
            if isinstance(found, QuarantineError):
                raise found
            content_id = keyed_hash(key, "content", found["content"])
            if content_id in seen:
                raise QuarantineError(Reason.DUPLICATE, "holds the same bytes as another file")  # noqa: TRY301
            seen.add(content_id)
            file = SourceFile(relative, file_id, content_id, found["uid"])
            if found["kind"] == "annotation":
                objects.append((file, tuple(found["references"])))
            else:
                images.append(file)
        except QuarantineError as error:
            rejected.append(Rejected.of(file_id, error))
    kept, conflicts = _one_per_uid(images)
    linked, orphans = _link(kept, objects)
    rows = sorted([*rejected, *conflicts, *orphans], key=lambda r: (r.file_id, r.reason))
    return Inventory(folder, kept, linked, tuple(rows))


def _inspect_all(folder: Path) -> Iterator[tuple[str, dict[str, Any] | QuarantineError]]:
    """Yield (relative path, facts or why there are none) of all files, in order, many to a request.

    Where a worker is lost, the file that it was at is, too, and the others go on in the next one.
    """
    with Sandbox() as sandbox:
        for batch in _batches(files_of(folder)):
            foreign = [is_foreign(path, folder) for path, _ in batch]
            waiting = [str(path) for (path, _), apart in zip(batch, foreign, strict=True) if not apart]
            answers = iter(list(_inspect_batch(sandbox, waiting)))  # to its end: the worker is free again
            for (_, relative), apart in zip(batch, foreign, strict=True):
                outside = QuarantineError(Reason.OUTSIDE_TREE, "is no regular file inside the center's folder")
                yield relative, outside if apart else next(answers)


def _inspect_batch(sandbox: Sandbox, paths: list[str]) -> Iterator[dict[str, Any] | QuarantineError]:
    done = 0
    while done < len(paths):
        try:
            for said, _ in sandbox.run(worker.inspect_many, paths=paths[done:]):
                done += 1
                yield (
                    QuarantineError(Reason(said["quarantine"][0]), said["quarantine"][1])
                    if "quarantine" in said
                    else said
                )
        except QuarantineError as error:
            done += 1
            yield error


def _batches(files: Iterator[tuple[Path, str]]) -> Iterator[list[tuple[Path, str]]]:
    while batch := list(islice(files, BATCH)):
        yield batch


def _one_per_uid(images: list[SourceFile]) -> tuple[tuple[SourceFile, ...], list[Rejected]]:
    kept: dict[str, SourceFile] = {}
    conflicts = []
    for item in sorted(images, key=lambda f: f.content_id):
        # A missing UID is unlike any other: the content stands in for it.
        name = item.uid or item.content_id
        if name in kept:
            error = QuarantineError(Reason.UID_CONFLICT, "has the SOP Instance UID of another file with other content")
            conflicts.append(Rejected.of(item.file_id, error))
        else:
            kept[name] = item
    return tuple(kept.values()), conflicts


def _link(
    images: tuple[SourceFile, ...], objects: list[tuple[SourceFile, tuple[str, ...]]]
) -> tuple[dict[str, tuple[SourceFile, ...]], list[Rejected]]:
    present = {item.uid for item in images if item.uid}
    linked: dict[str, list[SourceFile]] = {}
    orphans = []
    for item, references in sorted(objects, key=lambda o: o[0].content_id):
        here = [uid for uid in references if uid in present]
        for uid in here:
            linked.setdefault(uid, []).append(item)
        if not here:
            error = QuarantineError(Reason.ORPHAN_ANNOTATION, "refers to no usable image of this center")
            orphans.append(Rejected.of(item.file_id, error))
    return {uid: tuple(items) for uid, items in linked.items()}, orphans
