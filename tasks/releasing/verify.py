"""A release proven: fetched from the remote into an empty clone, every hash read again, images made again."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fetalflex.artifacts import file_sha256, read_json
from fetalflex.errors import ArtifactError, MissingSecretError, UsageError, WorkspaceError
from fetalflex.ingest.manifest import build_manifest, read_manifest
from fetalflex.release.chain import Findings, check_tree
from fetalflex.release.compare import MEAN_GREY_LEVELS, Difference, Remade, differing, summary
from fetalflex.release.machine import device_kind
from fetalflex.release.manifest import MANIFEST, Manifest
from fetalflex.release.manifest import read_manifest as read_release
from tasks import repository, versioning
from tasks.cases import read_synthetic
from tasks.progress import bar
from tasks.releasing.clone import clone_at
from tasks.releasing.objects import damaged, lay_out
from tasks.workspace import load_params, manifest_path, raw_folder, workspace_key

Say = Callable[[str], None]
_NEEDED = ("data/synthetic", "models/generator", "models/guide")


@dataclass
class Proof:
    """What verifying a release found. `other_kind`: how this machine differs from the release's."""

    tag: str
    findings: Findings = field(default_factory=Findings)
    remade: list[Remade] = field(default_factory=list)
    other_kind: dict[str, tuple[str, str]] = field(default_factory=dict)
    not_checked: list[str] = field(default_factory=list)
    withdrawn: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.findings.differences and self.withdrawn is None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON: `checked` images of which `identical`, `hashes` checked by part, `differences` named."""
        return {
            "tag": self.tag,
            "ok": self.ok,
            **summary(self.remade),
            "same_kind_of_device": not self.other_kind,
            "other_kind": {name: {"release": a, "here": b} for name, (a, b) in self.other_kind.items()},
            "tolerance_grey_levels": MEAN_GREY_LEVELS if self.other_kind else 0,
            "hashes": dict(self.findings.checked),
            "differences": [d.as_dict() for d in self.findings.differences],
            "not_checked": self.not_checked,
            "withdrawn": self.withdrawn,
        }


def verify_release(root: Path, tag: str, images: int | None, seed: int, say: Say = lambda _: None) -> Proof:
    """Prove a release, making `images` of its images again (None: all; 0: none), chosen by `seed`.

    Raises: UsageError for a tag that is none; WorkspaceError where the remote cannot be reached.
    """
    commit = repository.need_tag(root, tag)
    if repository.show(root, commit, MANIFEST.as_posix()) is None:
        raise UsageError(f"the tag {tag} is no release: it holds no {MANIFEST}")
    proof = Proof(tag, withdrawn=withdrawn_for(root, tag))
    if proof.withdrawn is not None:
        proof.not_checked.append(f"{proof.withdrawn}: its data were removed, and its images cannot be made again")
        return proof
    with clone_at(root, commit, "verify") as tree:
        manifest = _manifest(root, tree, tag, proof)
        if manifest is None:
            return proof
        say("fetching the release from the remote, reading every object")
        intact = _fetch(tree, proof)
        say("holding every file against the manifest")
        _check(tree, manifest, proof)
        _check_raw(root, tree, proof)
        if intact and images != 0:
            _remake(tree, manifest, images, seed, proof)
        elif images != 0:
            proof.not_checked.append("images were not made again: what they need is damaged or missing")
    return proof


def withdrawn_for(root: Path, tag: str) -> str | None:
    """Return why a release was withdrawn, None where it was not. The record is that of the branch we stand on."""
    path = root / "withdrawn.json"
    if not path.is_file():
        return None
    record = read_json(path)["releases"].get(tag)
    return f"withdrawn: center {record['center']} has left the dataset" if record else None


def _manifest(root: Path, tree: Path, tag: str, proof: Proof) -> Manifest | None:
    """Hold the manifest against the tag's message, and read it."""
    said = re.search(r"^manifest-sha256: ([0-9a-f]{64})$", repository.tag_message(root, tag), re.MULTILINE)
    found = file_sha256(tree / MANIFEST)
    proof.findings.hold("manifest", MANIFEST.as_posix(), found, said and said.group(1))
    try:
        return read_release(tree)
    except ArtifactError as error:
        proof.findings.differences.append(Difference("manifest", MANIFEST.as_posix(), str(error), "a manifest"))
        return None


def _fetch(tree: Path, proof: Proof) -> bool:
    """Fetch all objects, read each again, and lay them into the tree; return whether images can be made again."""
    tracked = versioning.tracked(tree)
    fault: str | None = None
    try:
        versioning.fetch(tree)
    except WorkspaceError as error:  # a missing object is named below; a remote out of reach is no finding
        fault = str(error)
    cache = tree.parent / "cache"
    count, faults = damaged(cache, tracked)
    if fault is not None and len(faults) == count:
        raise WorkspaceError(f"the remote cannot be read: {fault}")
    proof.findings.checked["object"] += count
    proof.findings.differences += faults
    lay_out(cache, tracked, tree)
    broken = {out for out in tracked for f in faults if f"{f.name}/".startswith(f"{out}/")}
    return not broken & set(_NEEDED)


def _check(tree: Path, manifest: Manifest, proof: Proof) -> None:
    found = check_tree(tree, manifest)
    proof.findings.checked += found.checked
    proof.findings.differences += found.differences


def _check_raw(root: Path, tree: Path, proof: Proof) -> None:
    """Hold raw files that lie on this machine against the release's manifests of fingerprints."""
    params = load_params(tree)
    for center in sorted(params.ingest.centers):
        folder = raw_folder(root, center)
        if not folder.is_dir():
            proof.not_checked.append(f"raw files of {center}: they are not on this machine")
            continue
        try:
            key = workspace_key(root, params)
        except (MissingSecretError, UsageError):
            proof.not_checked.append(f"raw files of {center}: the pseudonym key is not on this machine")
            continue
        here, _ = build_manifest(folder, key, {})
        present = {str(entry) for entry in here}
        for number, entry in enumerate(read_manifest(manifest_path(tree, center))):
            name = f"{center}: raw file {number}"
            proof.findings.hold("raw file", name, str(entry) if str(entry) in present else None, str(entry))


def _remake(tree: Path, manifest: Manifest, images: int | None, seed: int, proof: Proof) -> None:
    """Make images again and compare them, as this machine's kind demands."""
    from tasks.releasing.remake import Remaker, choose

    params = load_params(tree)
    here, there = device_kind(params.compute.device, params.compute.threads), manifest.environment["kind"]
    proof.other_kind = {
        name: (there.get(name, "-"), here.get(name, "-"))
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    }
    rows = {row["image_id"]: row for row in read_synthetic(tree).iter_rows(named=True)}
    chosen = choose(list(rows), images, seed)
    maker = Remaker(tree, params, rows)
    with bar(f"verify {proof.tag}: images", len(chosen)) as shown:
        for batch in maker.again(chosen):
            proof.remade += batch
            shown.advance(len(batch))
    proof.findings.checked["image made again"] += len(chosen)
    proof.findings.differences += differing(proof.remade, same_kind=not proof.other_kind)
