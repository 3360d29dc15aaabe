"""The manifest of a center's folder: keyed hashes of paths and contents, and nothing that names a patient.

No header is read here: this is all that a run with nothing to do needs of raw files.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from fetalflex.artifacts import atomic, file_sha256
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.errors import ArtifactError, SourceError

Known = dict[str, list[int | str]]
MANIFEST_HEAD = "# FetalFlex manifest 1: keyed hash of path, keyed hash of content"


def build_manifest(folder: Path, key: PseudonymKey, known: Known) -> tuple[dict[str, str], Known]:
    """Return (keyed hash of path -> keyed hash of content) of all files, and what the next call should be told.

    `known` (path hash -> size, time of change in ns, content hash) spares reading files whose size and time are
    unchanged; it is a cache and stays on this machine. Raises: SourceError for a missing or empty folder.
    """
    entries: dict[str, str] = {}
    fresh: Known = {}
    for path, relative in files_of(folder):
        file_id = file_id_of(key, relative)
        if is_foreign(path, folder):
            continue
        state = path.stat()
        before = known.get(file_id)
        if before is not None and before[:2] == [state.st_size, state.st_mtime_ns]:
            content = str(before[2])
        else:
            content = keyed_hash(key, "content", file_sha256(path))
        entries[file_id] = content
        fresh[file_id] = [state.st_size, state.st_mtime_ns, content]
    return entries, fresh


def write_manifest(path: Path, entries: Mapping[str, str]) -> None:
    """Write a manifest: sorted lines of two hashes and nothing else, so that it may be committed."""
    lines = [MANIFEST_HEAD, *(f"{name} {content}" for name, content in sorted(entries.items()))]
    with atomic(path) as partial:
        partial.write_text("\n".join(lines) + "\n")


def read_manifest(path: Path) -> dict[str, str]:
    """Read a manifest. Raises: ArtifactError where it is missing or none of ours."""
    try:
        head, *lines = path.read_text().splitlines()
        entries = dict(line.split(" ") for line in lines)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path.name}: no manifest ({type(error).__name__}); remove it and run again") from error
    if head != MANIFEST_HEAD:
        raise ArtifactError(f"{path.name}: no manifest of this version; remove it and run again")
    return entries


def locate(folder: Path, key: PseudonymKey, file_id: str) -> Path | None:
    """Return the raw file that a quarantine row names: for whoever holds the key and the files."""
    return next((path for path, relative in files_of(folder) if file_id_of(key, relative) == file_id), None)


def files_of(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield (path, relative path) of all files and links below a folder, sorted; folders behind links stay shut."""
    center = folder.name
    if not folder.is_dir():
        raise SourceError(f"center {center}: its folder of raw files is missing; put its DICOM files there")
    found = []
    for root, folders, names in os.walk(folder):
        links = [n for n in folders if (Path(root) / n).is_symlink()]
        found += [Path(root) / n for n in (*names, *links)]
    if not found:
        raise SourceError(f"center {center}: its folder of raw files is empty; put its DICOM files there")
    yield from sorted((path, path.relative_to(folder).as_posix()) for path in found)


def is_foreign(path: Path, folder: Path) -> bool:
    """Return whether a path is no regular file inside the folder (a link out of it, to nothing or a folder, a pipe)."""
    return not path.is_file() or not path.resolve().is_relative_to(folder.resolve())


def file_id_of(key: PseudonymKey, relative: str) -> str:
    """Return the keyed hash of a path, by which the owner of the key finds a file."""
    return keyed_hash(key, "file", relative)
