"""Raw files before the chain begins: embedded phantoms are drawn, manifests of keyed fingerprints kept true.

Raw files are never a dependency of DVC, cached or pushed: only the manifest is.
"""

import shutil
from pathlib import Path

from fetalflex.artifacts import read_json, write_json, writing_folder
from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import ParameterError, SourceError
from fetalflex.ingest.manifest import build_manifest, read_manifest, write_manifest
from fetalflex.params import Params, Phantom
from tasks import fingerprints
from tasks.progress import bar
from tasks.workspace import INCOMING, check_role, load_center, manifest_path, raw_folder, workspace_key


def prepare(root: Path, params: Params) -> None:
    """Make raw data ready: draw missing phantoms, refresh manifests, remove what centers that left have left behind.

    Raises: ParameterError, SourceError, MissingSecretError.
    """
    check_centers(root, params)
    key = workspace_key(root, params)
    for name in params.ingest.centers:
        spec = load_center(root, name).phantom
        if spec is not None:
            draw_phantom(root, name, spec)
        refresh_manifest(root, name, key)
    remove_orphans(root, params)


def check_centers(root: Path, params: Params) -> None:
    """Hold each center's role against the folder its frames go to; one must be trained on. Raises: ParameterError."""
    for name, folder in params.ingest.centers.items():
        check_role(name, folder, load_center(root, name))
    if "frames" not in params.ingest.centers.values():
        raise ParameterError(
            f"params.yaml: ingest.centers: found {', '.join(params.ingest.centers)}, for tests only; expected at least "
            "one center that is trained on: 'fetalflex import' or 'fetalflex onboard' adds it"
        )


def draw_phantom(root: Path, center: str, spec: Phantom) -> None:
    """Draw an embedded center's raw DICOM unless the same specification was drawn already."""
    stamp = root / ".work" / "phantom" / f"{center}.json"
    made_by = {"spec": spec.model_dump(), "code": fingerprints.files_fingerprint("fetalflex.phantom.center")}
    folder = raw_folder(root, center)
    if folder.is_dir() and stamp.is_file() and read_json(stamp) == made_by:
        return
    from fetalflex.phantom.center import write_center

    with writing_folder(folder) as partial, bar(f"phantom {center}", 1) as shown:
        for step in write_center(partial, spec, center):
            shown.total = step.total
            shown.advance()
    write_json(stamp, made_by)


def refresh_manifest(root: Path, center: str, key: PseudonymKey) -> None:
    """Bring a manifest up to date with the raw files; without raw files the committed manifest stands.

    Raises: SourceError where there is neither.
    """
    folder, path = raw_folder(root, center), manifest_path(root, center)
    if not folder.is_dir():
        if path.is_file():
            return
        raise SourceError(
            f"center {center}: the folder {INCOMING}/{center} is missing: put its DICOM files there, "
            f"or import a public set with 'fetalflex import SET SOURCE --center {center}'"
        )
    cache = root / ".work" / "manifests" / f"{center}.json"
    known = read_json(cache) if cache.is_file() else {}
    entries, known = build_manifest(folder, key, known)
    write_json(cache, known)
    if not path.is_file() or read_manifest(path) != entries:
        write_manifest(path, entries)


def stale_manifest(root: Path, center: str, key: PseudonymKey) -> bool:
    """Return whether a center's raw files differ from its manifest. Writes nothing."""
    folder, path = raw_folder(root, center), manifest_path(root, center)
    if not folder.is_dir():
        return not path.is_file()
    cache = root / ".work" / "manifests" / f"{center}.json"
    entries, _ = build_manifest(folder, key, read_json(cache) if cache.is_file() else {})
    return not path.is_file() or bool(read_manifest(path) != entries)


def remove_orphans(root: Path, params: Params) -> None:
    """Remove the frames of centers that are no longer listed: DVC leaves them behind."""
    for folder in ("frames", "test_only"):
        for found in (root / "data" / folder).glob("*"):
            if found.is_dir() and not found.name.startswith(".") and params.ingest.centers.get(found.name) != folder:
                shutil.rmtree(found)
