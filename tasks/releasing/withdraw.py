"""A center leaves: what that means for each release, and how its data leave cache, remote and registry.

A release whose model was trained on the center is withdrawn as a whole: every image of it comes from that model. Its
tag stays in git's history; its data go. The record `withdrawn.json` is committed, and `verify` reads it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fetalflex.artifacts import atomic, read_json, tree_sha256, write_json
from fetalflex.errors import UsageError, WorkspaceError
from fetalflex.release.manifest import MANIFEST, Manifest
from tasks import repository, tracking, versioning
from tasks.releasing.clone import check_is_dataset, clone_at
from tasks.workspace import load_params, manifest_path, raw_folder

RECORD = "withdrawn.json"


@dataclass(frozen=True)
class Effect:
    """What a center's leaving means for a release: images in its style, all images, and whether the model saw it."""

    tag: str
    in_its_style: int
    images: int
    trained_on: bool
    model_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self.__dict__.copy()


def effects(root: Path, center: str) -> list[Effect]:
    """Return what a center's leaving means for each release, the oldest first."""
    found = []
    for tag in repository.tags(root):
        text = repository.show(root, f"refs/tags/{tag}", MANIFEST.as_posix())
        if text is None:
            continue
        manifest = Manifest.model_validate_json(text)
        # A test-only center trained nothing, but its images measured the release: its reports came of them.
        concerned = any(c.name == center for c in manifest.centers)
        images = manifest.images
        found.append(Effect(tag, images.by_center.get(center, 0), images.total, concerned, manifest.model_sha256))
    return found


def check_withdrawal(root: Path, center: str) -> None:
    """Raise where the center cannot leave. Raises: UsageError, WorkspaceError."""
    check_is_dataset(root)
    params = load_params(root)
    if center not in params.ingest.centers and center not in _left(root):
        raise UsageError(f"center {center!r} is not in ingest.centers; it holds {', '.join(params.ingest.centers)}")
    if [n for n, folder in params.ingest.centers.items() if folder == "frames"] == [center]:
        raise UsageError(f"center {center} is the only one that trains: without it there is no dataset left")
    if not versioning.remotes(root):
        raise WorkspaceError("no remote for the data: nothing can be removed there")


def _left(root: Path) -> set[str]:
    """Return the centers whose withdrawal was begun, so that one that was cut off goes on."""
    path = root / RECORD
    return set(read_json(path).get("centers", [])) if path.is_file() else set()


def remove_center(root: Path, center: str, found: list[Effect]) -> None:
    """Take a center out of the dataset: raw files, profile, manifest, params.yaml; and write down which releases fall.

    The record is written first: what was begun is carried on by the same command.
    """
    path = root / RECORD
    known = read_json(path) if path.is_file() else {"centers": [], "releases": {}}
    known["centers"] = sorted({*known["centers"], center})
    for effect in found:
        if effect.trained_on:
            known["releases"].setdefault(effect.tag, {"center": center, "images": effect.images})
    write_json(path, known)
    _forget_in_params(root, center)
    versioning.forget(root, f"ingest@{center}")  # DVC keeps what it once ran: a release would look for its frames
    shutil.rmtree(raw_folder(root, center), ignore_errors=True)
    for file in (manifest_path(root, center), *(root / "centers").glob(f"{center}.*")):
        file.unlink(missing_ok=True)
    for folder in (root / "data" / "frames" / center, root / "data" / "test_only" / center):
        shutil.rmtree(folder, ignore_errors=True)


def _forget_in_params(root: Path, center: str) -> None:
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120
    path = root / "params.yaml"
    values = editor.load(path.read_text(encoding="utf-8"))
    if values["ingest"]["centers"].pop(center, None) is not None:
        with atomic(path) as partial, partial.open("w", encoding="utf-8") as stream:
            editor.dump(values, stream)


def remove_objects(root: Path, found: list[Effect]) -> list[str]:
    """Remove all objects of withdrawn releases from cache and remote, and models of them from the registry.

    What the committed state and the releases that stay need is kept. Returns the versions that were withdrawn.
    """
    fallen = [e for e in found if e.trained_on]
    with clone_at(root, repository.head(root), "withdraw", versioning.cache_folder(root)) as tree:
        for effect in fallen:
            if repository.tag_commit(tree, effect.tag) is not None:
                repository.git(tree, "tag", "--delete", effect.tag)
        versioning.collect_garbage(tree)
    shutil.rmtree(root / ".dvc" / "cache" / "runs", ignore_errors=True)  # what old runs made is gone
    weights = root / "models" / "generator"
    kept = {e.model_sha256 for e in found if not e.trained_on}
    kept |= {tree_sha256([weights])} if weights.is_dir() else set()
    return tracking.withdraw_models(root, kept)
