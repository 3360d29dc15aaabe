"""Older releases read again: two of them held against one another, and all of them against the present gate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fetalflex import tables
from fetalflex.artifacts import atomic, read_json
from fetalflex.errors import UsageError
from fetalflex.quality.gate import decide
from fetalflex.release.diff import Diff, Side, compare
from fetalflex.release.diff_page import render
from fetalflex.release.exports.write import SHEET
from fetalflex.release.manifest import FILES, MANIFEST, read_manifest
from tasks import repository, versioning
from tasks.releasing.clone import clone_at
from tasks.releasing.verify import withdrawn_for
from tasks.workspace import load_params

QUALITY, DOWNSTREAM, SCORES = "reports/quality.json", "reports/downstream.json", "reports/scores.parquet"


def diff_releases(root: Path, before: str, after: str) -> tuple[Diff, Path]:
    """Compare two releases and write the page `reports/diff-BEFORE-AFTER.html`. Raises: UsageError, WorkspaceError."""
    (one, sheet_one), (two, sheet_two) = _read(root, before), _read(root, after)
    found = compare(one, two)
    page = root / "reports" / f"diff-{before}-{after}.html"
    with atomic(page) as partial:
        partial.write_text(render(found, (sheet_one, sheet_two)), encoding="utf-8")
    return found, page


def _read(root: Path, tag: str) -> tuple[Side, bytes | None]:
    """Return what is compared of a release, and its sheet. Raises: UsageError where it was withdrawn."""
    if gone := withdrawn_for(root, tag):
        raise UsageError(f"release {tag} cannot be compared: {gone}, and its data were removed")
    sheet = (FILES / SHEET).as_posix()
    with clone_at(root, repository.need_tag(root, tag), "diff", versioning.cache_folder(root)) as tree:
        manifest = read_manifest(tree)
        versioning.pull(tree, QUALITY, DOWNSTREAM, sheet)
        side = Side(
            manifest,
            yaml.safe_load((tree / "params.yaml").read_text(encoding="utf-8")),
            read_json(tree / QUALITY),
            read_json(tree / DOWNSTREAM),
        )
        return side, (tree / sheet).read_bytes() if (tree / sheet).is_file() else None


@dataclass(frozen=True)
class Backfilled:
    """A release under the present gate: the verdict then and now, why not, and how many images it accepts."""

    tag: str
    then: bool
    now: bool
    missed: tuple[str, ...]
    accepted_then: int
    accepted_now: int
    total: int

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self.__dict__ | {"missed": list(self.missed)}


def backfill(root: Path, chosen: list[str]) -> list[Backfilled]:
    """Judge releases (all where none is named) by the gate of the workspace's present params.yaml.

    Nothing is scored again: what a release's reports do not hold counts as not measured. Raises: UsageError.
    """
    names = chosen or [
        tag
        for tag in repository.tags(root)
        if repository.show(root, f"refs/tags/{tag}", MANIFEST.as_posix()) and withdrawn_for(root, tag) is None
    ]
    gate = load_params(root).gate
    found = []
    for tag in names:
        with clone_at(root, repository.need_tag(root, tag), "backfill", versioning.cache_folder(root)) as tree:
            manifest = read_manifest(tree)
            versioning.pull(tree, QUALITY, DOWNSTREAM, SCORES)
            scores = tables.read_shards([tree / SCORES], tables.Scores)
            again = decide(read_json(tree / QUALITY), read_json(tree / DOWNSTREAM), scores, gate)
        missed = tuple(f"{c['metric']} {c['bound']}" for c in again["criteria"] if not c["passed"])
        accepted = len(again["images"]["accepted"])
        then = bool(manifest.gate["passed"])
        images = manifest.images
        found.append(Backfilled(tag, then, again["passed"], missed, images.accepted, accepted, images.total))
    return found
