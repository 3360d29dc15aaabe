"""Objects of DVC's store, read again by their hash: `dvc push` and `dvc fetch` look at names alone.

Source: DVC 3.x stores an object with MD5 abcd... as `files/md5/ab/cd...`; a folder is a JSON list, ending `.dir`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fetalflex.artifacts import atomic
from fetalflex.errors import WorkspaceError
from fetalflex.release.compare import Difference


@dataclass(frozen=True)
class Object:
    """A versioned file: its path in the tree, its MD5, and where the store keeps it."""

    name: str
    md5: str
    place: Path


def place_of(store: Path, md5: str) -> Path:
    """Return where a store keeps an object."""
    return store / "files" / "md5" / md5[:2] / md5[2:]


def objects(store: Path, tracked: Mapping[str, str]) -> Iterator[Object]:
    """Yield every object of these outputs (path -> MD5), folders with what they list. Missing ones are yielded, too."""
    for name, md5 in tracked.items():
        found = Object(name, md5, place_of(store, md5))
        yield found
        if md5.endswith(".dir") and damage(found) is None:
            for item in json.loads(found.place.read_text()):
                yield Object(f"{name}/{item['relpath']}", item["md5"], place_of(store, item["md5"]))


def damage(item: Object) -> Difference | None:
    """Return what is wrong with an object: it is missing, or its bytes do not have its hash. None: nothing."""
    if not item.place.is_file():
        return Difference("object", item.name, "missing", item.md5)
    try:
        with item.place.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise WorkspaceError(f"the copy of {item.name} cannot be read ({error.strerror})") from error
    expected = item.md5.removesuffix(".dir")
    return None if found == expected else Difference("object", item.name, found, expected)


def damaged(store: Path, tracked: Mapping[str, str]) -> tuple[int, list[Difference]]:
    """Read all objects again; return how many there are, and those that are damaged or missing."""
    count, found = 0, []
    for item in objects(store, tracked):
        count += 1
        fault = damage(item)
        if fault is not None:
            found.append(fault)
    return count, found


def drop_torn(remote: Path, cache: Path, tracked: Mapping[str, str]) -> int:
    """Remove objects of a folder that a killed push left half-written, and return how many.

    DVC copies into a folder under the last name at once, and never sends again what is there. Half a file is shorter
    than the cache's; one of the right length and other bytes is no such thing, and stays to be named.
    """
    torn = 0
    for name, md5 in tracked.items():
        found = [item for item in objects(cache, {name: md5}) if _is_shorter(place_of(remote, item.md5), item.place)]
        for place in places_of(md5, [item.md5 for item in found]):
            (remote / place).unlink(missing_ok=True)
        torn += len(found)
    return torn


def places_of(md5: str, damaged_md5: list[str]) -> list[str]:
    """Return what has to leave a store so that damaged objects of an output are sent again: a folder's list with them.

    Where the list of a folder is there, DVC takes its files for there, too.
    """
    wanted = [*damaged_md5, *([md5] if damaged_md5 and md5.endswith(".dir") else [])]
    return [place_of(Path(), one).as_posix() for one in dict.fromkeys(wanted)]


def _is_shorter(place: Path, whole: Path) -> bool:
    return place.is_file() and whole.is_file() and place.stat().st_size < whole.stat().st_size


def lay_out(store: Path, tracked: Mapping[str, str], tree: Path) -> None:
    """Put objects in their places in a tree, to be read: damaged ones as they are, missing ones not at all."""
    for item in objects(store, tracked):
        if not item.md5.endswith(".dir") and item.place.is_file():
            target = tree / item.name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(item.place, target)


def heal(store: Path, faults: list[Difference], tree: Path) -> list[Difference]:
    """Put objects back into a store from intact files of a tree; return those that stay damaged."""
    left = []
    for fault in faults:
        item, source = Object(fault.name, fault.expected, place_of(store, fault.expected)), tree / fault.name
        if damage(Object(fault.name, fault.expected, source)) is not None:
            left.append(fault)
            continue
        with atomic(item.place) as partial:
            shutil.copyfile(source, partial)
            partial.chmod(0o444)  # as DVC keeps them
    return left
