"""Where a center's raw files wait for a decision: beside the approved ones, which are linked in so that nothing is
fetched or read twice.

`.work/onboard/CENTER/` is laid out like `incoming/`: raw files in `CENTER/`, the fetch's journal beside them. A killed
onboarding leaves it, and the next one goes on; a refused one removes it.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetalflex.artifacts import atomic, read_json, write_json
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.ingest.manifest import build_manifest, read_manifest
from tasks.workspace import INCOMING, manifest_path, raw_folder

Row = dict[str, Any]


@dataclass(frozen=True)
class Staging:
    """One center's staging folder in a workspace."""

    root: Path
    center: str

    @property
    def base(self) -> Path:
        """The folder that holds everything of this onboarding and that is removed with it."""
        return self.root / ".work" / "onboard" / self.center

    @property
    def raw(self) -> Path:
        """The raw files: those approved before and those that wait."""
        return self.base / self.center

    @property
    def pending(self) -> Path:
        """An approval that is written down and not carried out in full yet."""
        return self.base / "approved.json"

    def open(self) -> None:
        """Make the folder and link in what the center holds already, with the journal of how it came."""
        self.raw.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.base.chmod(0o700)
        there = raw_folder(self.root, self.center)
        for name in files_below(there):
            target = self.raw / name
            if not target.exists():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                target.hardlink_to(there / name)
        journal, here = (_journal(folder, self.center) for folder in (self.root / INCOMING, self.base))
        if journal.is_file() and not here.is_file():
            here.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(journal, here)

    def remove(self) -> None:
        """Remove everything of this onboarding; the approved files stay where they are."""
        shutil.rmtree(self.base, ignore_errors=True)

    def names(self) -> list[str]:
        """Return the raw files, relative to `raw`, sorted. Links and other things that are no files are left out."""
        return files_below(self.raw)

    def manifest(self, key: PseudonymKey) -> dict[str, str]:
        """Return the manifest of the staged files; unchanged files are not read again."""
        cache = self.root / ".work" / "manifests" / f"{self.center}.json"
        entries, known = build_manifest(self.raw, key, read_json(cache) if cache.is_file() else {})
        write_json(cache, known)
        return entries

    def new_names(self, key: PseudonymKey, entries: dict[str, str]) -> set[str]:
        """Return the files that the center's committed manifest does not hold, or holds with another content."""
        path = manifest_path(self.root, self.center)
        approved = read_manifest(path) if path.is_file() else {}
        fresh = {file for file, content in entries.items() if approved.get(file) != content}
        return {name for name in self.names() if keyed_hash(key, "file", name) in fresh}

    def move_in(self) -> None:
        """Put the staged files into `incoming/CENTER`; can be done again after a kill."""
        there = raw_folder(self.root, self.center)
        there.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in self.names():
            target = there / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not target.exists() or not target.samefile(self.raw / name):
                with atomic(target) as partial:
                    partial.hardlink_to(self.raw / name)
        journal, here = (_journal(folder, self.center) for folder in (self.root / INCOMING, self.base))
        if here.is_file():
            with atomic(journal) as partial:
                shutil.copyfile(here, partial)
            journal.parent.chmod(0o700)


class Facts:
    """What earlier onboardings read of a center's headers, by keyed hash of path: a cache of this machine.

    Rows hold numbers, words of our vocabularies and keyed hashes; no text of a header.
    """

    def __init__(self, root: Path, center: str, key: PseudonymKey) -> None:
        """Read the cache where there is one."""
        self._path, self._key = root / ".work" / "facts" / f"{center}.json", key
        self._known: dict[str, list[Any]] = read_json(self._path) if self._path.is_file() else {}

    def find(self, folder: Path, name: str) -> Row | None:
        """Return the row of a file that did not change since, or None."""
        known = self._known.get(self._id(name))
        return dict(known[2]) | {"name": name} if known is not None and known[:2] == _state(folder / name) else None

    def keep(self, folder: Path, rows: list[Row]) -> None:
        """Keep the rows of a center's files, and those alone."""
        self._known = {
            self._id(r["name"]): [
                *_state(folder / r["name"]), {k: v for k, v in r.items() if k not in ("name", "text", "number")}
            ]
            for r in rows
        }  # fmt: skip
        write_json(self._path, self._known)

    def _id(self, name: str) -> str:
        return keyed_hash(self._key, "facts", name)


def files_below(folder: Path) -> list[str]:
    """Return the regular files below a folder, relative, sorted; links are not followed."""
    found = []
    for at, _, names in os.walk(folder):
        paths = [Path(at) / name for name in names]
        found += [p.relative_to(folder).as_posix() for p in paths if p.is_file() and not p.is_symlink()]
    return sorted(found)


def _journal(folder: Path, center: str) -> Path:
    return folder / f".{center}.fetch" / "journal"


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
