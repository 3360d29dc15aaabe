"""The chain of hashes of a release, from the manifests of raw files to the reports, read again from its files.

Every check names what it found. Nothing here trusts a size or a time: all bytes are read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fetalflex import tables
from fetalflex.artifacts import file_sha256, read_json
from fetalflex.errors import ArtifactError, FetalFlexError
from fetalflex.params import read_params
from fetalflex.quality.gate import decide
from fetalflex.release.compare import Difference
from fetalflex.release.exports.write import TABLE
from fetalflex.release.manifest import FILES, Manifest
from fetalflex.release.tables import HubImages, ReleasedImages


@dataclass
class Findings:
    """What was checked, by part, and what is not as it should be."""

    checked: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def hold(self, part: str, name: str, found: str | None, expected: str | None) -> None:
        """Note one comparison."""
        self.checked[part] += 1
        if found != expected:
            self.differences.append(Difference(part, name, found or "missing", expected or "nothing"))


def check_tree(root: Path, manifest: Manifest) -> Findings:
    """Check a whole tree of a release: files, links of the chain, images and their exports, the verdict."""
    findings = Findings()
    check_files(root, manifest, findings)
    for check in (check_lock, check_verdict):
        _try(check, root, findings)
    _try(lambda r, f: check_images(r, manifest, f), root, findings)
    return findings


def _try(check: Any, root: Path, findings: Findings) -> None:
    """Run a check; where a damaged file stops it, that is a difference (the file was named by its hash already)."""
    try:
        check(root, findings)
    except FetalFlexError as error:
        text = " ".join(str(error).split()).replace(f"{root}/", "")
        findings.differences.append(Difference("unreadable", text.split(":")[0], text, "a readable file"))


def check_files(root: Path, manifest: Manifest, findings: Findings) -> None:
    """Hold every file that the manifest lists against its SHA-256."""
    for name, expected in manifest.files.items():
        path = root / name
        findings.hold("file", name, file_sha256(path) if path.is_file() else None, expected)


def check_lock(root: Path, findings: Findings) -> None:
    """Hold all that dvc.lock says against the tree: dependencies and outputs by MD5, parameters by value.

    A stage's dependency and the output that it names are the same files: equal to both, the link holds.
    """
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    known: dict[str, str | None] = {}
    for stage, entry in lock["stages"].items():
        for kind in ("deps", "outs"):
            for item in entry.get(kind, []):
                path = item["path"]
                if path not in known:
                    known[path] = dvc_md5(root / path)
                findings.hold("link", f"{stage}: {path}", known[path], item["md5"])
        for file, values in entry.get("params", {}).items():
            present = yaml.safe_load((root / file).read_text(encoding="utf-8"))
            for name, value in values.items():
                found = _lookup(present, name)
                findings.hold("parameter", f"{stage}: {file}: {name}", json.dumps(found), json.dumps(value))


def _lookup(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def dvc_md5(path: Path) -> str | None:
    """Return the MD5 that DVC gives a file or a folder, None where there is none.

    Source: dvc-data 3.x: a folder's is that of the JSON list of its files' MD5 and relative paths, with `.dir`.
    """
    if path.is_file():
        return _md5(path)
    if not path.is_dir():
        return None
    files = sorted((p.relative_to(path).as_posix(), p) for p in path.rglob("*") if p.is_file())
    listed = [{"md5": _md5(p), "relpath": name} for name, p in sorted(files, key=lambda f: f[0].split("/"))]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error


def check_verdict(root: Path, findings: Findings) -> None:
    """Decide again from the reports and hold the answer against `reports/gate.json`."""
    reports = root / "reports"
    scores = tables.read_shards([reports / "scores.parquet"], tables.Scores)
    again = decide(
        read_json(reports / "quality.json"), read_json(reports / "downstream.json"), scores,
        read_params(root / "params.yaml").gate,
    )  # fmt: skip
    said = read_json(reports / "gate.json")
    for part in ("passed", "criteria", "images"):
        findings.hold("verdict", f"reports/gate.json: {part}", _text(again[part]), _text(said.get(part)))


def _text(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else hashlib.sha256(text.encode()).hexdigest()


def check_images(root: Path, manifest: Manifest, findings: Findings) -> None:
    """Hold every image of the dataset, and each of its exported forms, against the release's table."""
    files = root / FILES
    table = tables.read_shards([files / TABLE], ReleasedImages)
    findings.hold("image table", TABLE, file_sha256(files / TABLE), manifest.images.table_sha256)
    rows = {row["image_id"]: row for row in table.iter_rows(named=True)}
    seen = set()
    for name, png in _dataset_images(root):
        seen.add(name)
        row = rows.get(name)
        findings.hold("image", name, hashlib.sha256(png).hexdigest(), row["sha256"] if row else None)
    for name in sorted(rows.keys() - seen):
        findings.hold("image", name, None, rows[name]["sha256"])
    _check_exports(files, rows, findings)


def _dataset_images(root: Path) -> Iterator[tuple[str, bytes]]:
    for shard in sorted((root / "data" / "synthetic").glob("images-*.parquet")):
        for row in tables.read_shards([shard], tables.Synthetic).iter_rows(named=True):
            yield row["image_id"], row["image"]["bytes"]


def _check_exports(files: Path, rows: dict[str, dict[str, Any]], findings: Findings) -> None:
    for shard in sorted((files / "huggingface" / "data").glob("*.parquet")):
        for row in tables.read_shards([shard], HubImages).iter_rows(named=True):
            found, name = hashlib.sha256(row["image"]["bytes"]).hexdigest(), row["image_id"]
            findings.hold("hub image", f"{shard.name}: {name}", found, rows.get(name, {}).get("sha256"))
    expected: dict[Path, str] = {}
    for name, row in rows.items():
        folder = files / "dicom" / ("accepted" if row["accepted"] else "rejected")
        expected[files / "coco" / "images" / f"{name}.png"] = row["sha256"]
        for column, ending in (("dicom", ""), ("segmentation", "-seg"), ("boxes", "-boxes")):
            if row[column] is not None:
                expected[folder / f"{name}{ending}.dcm"] = row[column]
    for path, sha256 in expected.items():
        again = file_sha256(path) if path.is_file() else None
        findings.hold("export", path.relative_to(files).as_posix(), again, sha256)
    for place in (files / "coco" / "images", files / "dicom"):
        for path in place.rglob("*"):
            if path.is_file() and path not in expected:
                findings.hold("export", path.relative_to(files).as_posix(), file_sha256(path), None)
