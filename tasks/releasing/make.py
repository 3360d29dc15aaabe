"""A release as a transaction: built in a clean clone, pushed, read again by hash, and only then given its tag.

A release is visible when its git tag exists, which is one step. Before it, a kill or a refusal leaves loose objects
that no name shows; after it, the same command completes what still lacks (the marks in MLflow's registry).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetalflex import tables
from fetalflex.artifacts import atomic, file_sha256, read_json, tree_sha256
from fetalflex.errors import UsageError, WorkspaceError
from fetalflex.release.card import dataset_card
from fetalflex.release.exports.write import SHEET, TABLE, Counts, write_exports
from fetalflex.release.machine import environment
from fetalflex.release.manifest import CARD, FILES, MANIFEST, CenterNote, Images, Manifest, check_tag, write_manifest
from fetalflex.rng import derive_seed
from tasks import fingerprints, repository, tracking, versioning
from tasks.progress import bar
from tasks.releasing.clone import check_is_dataset, clone_at
from tasks.releasing.objects import damaged, drop_torn, heal, places_of
from tasks.stage import stage_names
from tasks.workspace import load_center, load_params

Say = Callable[[str], None]


@dataclass(frozen=True)
class Released:
    """A finished release. `version`: that of the generator in MLflow's registry."""

    tag: str
    commit: str
    images: int
    accepted: int
    passed: bool
    version: str | None
    completed: bool  # it existed already, and what it lacked was completed

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self.__dict__.copy()


@dataclass(frozen=True)
class Tagged:
    """A release that has its tag: its manifest, its commit, and whether it existed already."""

    manifest: Manifest
    commit: str
    existed: bool


def make_release(root: Path, tag: str, *, allow_failing: bool, say: Say = lambda _: None) -> Released:
    """Make a release and mark it in the registry. The caller holds the run's lock.

    Raises: UsageError, WorkspaceError with what stands in the way; nothing is visible then.
    """
    return mark(root, tag_release(root, tag, allow_failing=allow_failing, say=say))


def tag_release(root: Path, tag: str, *, allow_failing: bool, say: Say = lambda _: None) -> Tagged:
    """Make a release up to its tag, or find the one there is. Raises: UsageError, WorkspaceError."""
    check_tag(tag)
    check_is_dataset(root)
    existing = repository.tag_commit(root, tag)
    if existing is not None:
        return _existing(root, tag, existing)
    commit = _committed(root)
    with clone_at(root, commit, "release", versioning.cache_folder(root)) as tree:
        say("clean clone: versioned data")
        _check_data(root, tree)
        verdict = read_json(tree / "reports" / "gate.json")
        marked = _marked(verdict, allow_failing)
        say("exports: Hugging Face, COCO, DICOM")
        manifest = build(tree, tag, commit, verdict, marked)
        made = repository.commit_all(tree, _title(manifest))
        say("push, and every object read again from the remote")
        _publish(root, tree)
        repository.take_commit(root, tree, made)
        repository.set_tag(root, tag, made, _message(tree, manifest))
    return Tagged(manifest, made, existed=False)


def _committed(root: Path) -> str:
    """Return the commit that is going to be released. Raises: WorkspaceError where the tree holds something else."""
    commit, changed = repository.head(root), repository.changed_files(root)
    if changed:
        raise WorkspaceError(
            f"{len(changed)} files are not committed ({', '.join(changed[:4])}): git add -A && git commit, then release"
        )
    if not versioning.remotes(root):
        raise WorkspaceError(
            "no remote for the data: 'dvc remote add -d storage FOLDER-OR-ADDRESS', commit .dvc/config, then release"
        )
    return commit


def _check_data(root: Path, tree: Path) -> None:
    """Bring the data into the clone and hold them against dvc.lock.

    A rotten cache heals from the workspace's own files.

    Raises: WorkspaceError.
    """
    tracked = versioning.tracked(tree)
    missing = [s for s in stage_names(tree) if not any(n.partition("@")[0] == s for n in versioning.locked(tree))]
    if missing:
        raise WorkspaceError(f"stage {missing[0]} has never run here: 'fetalflex run', commit, then release")
    cache = versioning.cache_folder(tree)
    count, faults = damaged(cache, tracked)
    faults = heal(cache, faults, root)
    if faults:
        raise WorkspaceError(
            f"the cache holds {len(faults)} damaged or missing objects of {count} ({faults[0].name}): "
            "remove them from the cache, then 'fetalflex run' makes them again"
        )
    versioning.checkout(tree)
    stale = versioning.status(tree)
    if stale:
        name, reasons = next(iter(stale.items()))
        raise WorkspaceError(f"{name} is not up to date ({reasons[0]}): 'fetalflex run', commit, then release")


def _marked(verdict: dict[str, Any], allow_failing: bool) -> str | None:
    """Return why the gate rejects, None where it accepts.

    Raises: UsageError where it rejects and nobody allowed it, and where it accepts no image: that nobody can allow.
    """
    missed = [c for c in verdict["criteria"] if not c["passed"]]
    if not verdict["images"]["accepted"]:
        told = next((c["would_pass_if"] for c in missed if c["metric"] == "accepted_images"), "see reports/gate.json")
        raise UsageError(
            f"the gate accepts none of the {len(verdict['images']['rejected'])} images, so there is nothing to "
            f"release, marked or not. It would where {told}; then 'fetalflex run', commit, release"
        )
    if verdict["passed"]:
        return None
    text = "; ".join(f"{c['metric']}: must be {c['bound']}, {_value(c)} ({c['reason']})" for c in missed)
    if not allow_failing:
        raise UsageError(f"the gate rejects this release: {text}. With --allow-failing-gate it is made, and marked so")
    return text


def _value(criterion: dict[str, Any]) -> str:
    return "not measured" if criterion["value"] is None else f"is {criterion['value']:.3g}"


def build(tree: Path, tag: str, commit: str, verdict: dict[str, Any], marked: str | None) -> Manifest:
    """Write exports, card and manifest into a clone. `commit`: what is released."""
    model = tree_sha256([tree / "models" / "generator"])
    shards = sorted((tree / "data" / "synthetic").glob("images-*.parquet"))
    counts: Counts | None = None
    with bar(f"release {tag}: exports", len(shards)) as shown:
        for counts in write_exports(tree / FILES, shards, verdict, model, f"Synthetic fetal ultrasound, release {tag}"):
            shown.advance(note=f"{counts.total} images")
    if counts is None:
        raise WorkspaceError("data/synthetic holds no images: 'fetalflex run', commit, then release")
    manifest = _manifest(tree, tag, commit, verdict, marked, model, counts)
    reports = (read_json(tree / "reports" / f"{n}.json") for n in ("quality", "downstream"))
    card = dataset_card(manifest, *reports)
    for place in (tree / CARD, tree / FILES / "huggingface" / "README.md"):
        with atomic(place) as partial:
            partial.write_text(card.replace("](samples.png)", f"]({_sheet(place)})"), encoding="utf-8")
    (tree / FILES / "huggingface" / SHEET).write_bytes((tree / FILES / SHEET).read_bytes())
    versioning.add(tree, FILES.as_posix())
    manifest = manifest.model_copy(update={"files": _file_hashes(tree)})
    write_manifest(tree, manifest)
    return manifest


def _sheet(place: Path) -> str:
    return SHEET if place.parent.name == "huggingface" else f"files/{SHEET}"


def _manifest(
    tree: Path, tag: str, commit: str, verdict: dict[str, Any], marked: str | None, model: str, counts: Counts
) -> Manifest:
    params = load_params(tree)
    return Manifest(
        tag=tag, parent=commit, marked=marked,
        gate={k: verdict[k] for k in ("passed", "criteria")},
        images=Images(
            total=counts.total, accepted=counts.by_split["accepted"], by_kind=dict(counts.by_kind),
            by_plane=dict(counts.by_plane), by_anomaly=dict(counts.by_anomaly),
            by_center=dict(counts.by_center),
            table_sha256=file_sha256(tree / FILES / TABLE),
        ),
        seeds={"data": params.data.seed, "sample": derive_seed(params.data.seed, "sample")},
        model_sha256=model,
        environment=environment(params.compute.device, params.compute.threads),
        code=fingerprints.read(tree)["code"],
        centers=tuple(_center(tree, name, folder) for name, folder in sorted(params.ingest.centers.items())),
    )  # fmt: skip


def _center(tree: Path, name: str, folder: str) -> CenterNote:
    profile = load_center(tree, name)
    frames = tables.read_shards((tree / "data" / folder / name).glob("frames-*.parquet"), tables.Frames)
    return CenterNote(
        name=name, title=profile.title, role=profile.role, licence=profile.licence, consent=profile.consent,
        images=frames.height,
    )  # fmt: skip


def _file_hashes(tree: Path) -> dict[str, str]:
    """Return path -> SHA-256 of every versioned file; single exported images stand in the table instead."""
    names = repository.git(tree, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    paths = {tree / name for name in names}
    for out in versioning.tracked(tree):
        path = tree / out
        paths |= {p for p in path.rglob("*") if p.is_file()} if path.is_dir() else {path}
    singles = (tree / FILES / "coco" / "images", tree / FILES / "dicom")
    kept = (p for p in paths if p != tree / MANIFEST and not any(s in p.parents for s in singles))
    return {p.relative_to(tree).as_posix(): file_sha256(p) for p in sorted(kept) if p.is_file()}


def _title(manifest: Manifest) -> str:
    mark = f"\n\nThe gate rejects it: {manifest.marked}" if manifest.marked else ""
    return f"Release {manifest.tag}: {manifest.images.accepted} of {manifest.images.total} images accepted{mark}"


def _message(tree: Path, manifest: Manifest) -> str:
    return f"{_title(manifest)}\n\nmanifest-sha256: {file_sha256(tree / MANIFEST)}"


def _publish(root: Path, tree: Path) -> None:
    """Push all objects and read every one again from the remote. Raises: WorkspaceError naming a damaged one."""
    tracked, remote = versioning.tracked(tree), Path(next(iter(versioning.remotes(tree).values())))
    if remote.is_dir():
        drop_torn(remote, versioning.cache_folder(tree), tracked)
    versioning.push(tree)
    proof = tree.parent / "proof"
    versioning.use_cache(tree, proof)
    versioning.fetch(tree)
    count, faults = damaged(proof, tracked)
    if faults:
        output = next(n for n in tracked if faults[0].name == n or faults[0].name.startswith(f"{n}/"))
        damaged_md5 = tracked[output] if faults[0].name == output else faults[0].expected
        places = " and ".join(places_of(tracked[output], [damaged_md5]))
        raise WorkspaceError(
            f"the remote holds {len(faults)} damaged objects of {count} (of {faults[0].name}): remove {places} there, "
            "then release again: it is sent anew"
        )
    versioning.use_cache(tree, versioning.cache_folder(root))


def _existing(root: Path, tag: str, commit: str) -> Tagged:
    """Return a release that has its tag, so that it can be completed.

    Raises: UsageError where the tag is no release of this very state.
    """
    text = repository.show(root, commit, MANIFEST.as_posix())
    if text is None:
        raise UsageError(f"the tag {tag} exists and is no release: choose another name")
    manifest = Manifest.model_validate_json(text)
    if manifest.parent != repository.head(root):
        raise UsageError(f"release {tag} exists, of another commit: a release is never changed; choose another name")
    return Tagged(manifest, commit, existed=True)


def mark(root: Path, tagged: Tagged) -> Released:
    """Mark the generator in the registry; `champion` only past the gate."""
    manifest, weights = tagged.manifest, root / "models" / "generator"
    passed, at_hand = manifest.marked is None, weights if weights.is_dir() else None
    version = tracking.mark_release(root, manifest.tag, manifest.model_sha256, at_hand, crowned=passed)
    images = manifest.images
    return Released(manifest.tag, tagged.commit, images.total, images.accepted, passed, version, tagged.existed)
