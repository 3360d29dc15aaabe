"""The manifest: what a release is made of, by hash; under which terms, for what, and what the gate said."""

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fetalflex.artifacts import write_json
from fetalflex.errors import ArtifactError, UsageError

PLACE = Path("release")
MANIFEST, CARD, FILES = PLACE / "manifest.json", PLACE / "README.md", PLACE / "files"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

INTENDED_USE = (
    "Training and testing of software on fetal ultrasound: segmentation, classification of planes, detection of "
    "structures and of the simulated anomalies; teaching; research on synthetic data.",
)
LIMITS = (
    "Not for diagnosis, and no evidence of how a disease, a population or a device looks.",
    "Images are synthetic. What the training data do not show (devices, populations, planes, ages) they cannot show.",
    "An anomaly is a change of the layout; how its tissue looks is what the model knows from normal images.",
    "Structures are those that were asked for; the judge's Dice in the figures says how well images follow them.",
    "Near-copies of training images are counted, not excluded with certainty.",
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CenterNote(_Part):
    """A center whose images trained the model: its terms, and how many of its images took part."""

    name: str
    title: str
    role: str
    licence: str
    consent: str
    images: int


class Images(_Part):
    """The images: how many, and the SHA-256 of the table that holds that of each."""

    total: int
    accepted: int
    by_kind: dict[str, int]
    by_plane: dict[str, int]
    by_anomaly: dict[str, int]
    by_center: dict[str, int]
    table_sha256: str


class Manifest(_Part):
    """`release/manifest.json` of a tag. `files`: path -> SHA-256 of every versioned file of the release.

    `gate` holds `passed` and the criteria; a release that was made past a rejecting gate has `marked` set. `code`:
    stage -> hash of the source that it runs. `environment.kind` is what must be equal for equal bytes.
    """

    form: Literal[1] = 1
    tag: str
    parent: str
    marked: str | None
    gate: dict[str, Any]
    images: Images
    seeds: dict[str, int]
    model_sha256: str
    environment: dict[str, Any]
    code: dict[str, str]
    centers: tuple[CenterNote, ...]
    intended_use: tuple[str, ...] = INTENDED_USE
    limits: tuple[str, ...] = LIMITS
    files: dict[str, str] = Field(default_factory=dict)


def check_tag(tag: str) -> str:
    """Return a release's name. Raises: UsageError for one that git or a file name would not take.

    >>> check_tag("v2026.11")
    'v2026.11'
    """
    if not _TAG.fullmatch(tag) or ".." in tag or tag.endswith((".", ".lock")):
        raise UsageError(f"release {tag!r}: expected letters, digits, '.', '_' and '-', by convention vYYYY.MM")
    return tag


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write the manifest in a tree."""
    write_json(root / MANIFEST, manifest.model_dump(mode="json"))


def read_manifest(root: Path) -> Manifest:
    """Read a tree's manifest. Raises: ArtifactError where it is missing, damaged or of another form."""
    path = root / MANIFEST
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ArtifactError(
            f"{MANIFEST}: no manifest of a release ({' '.join(str(error).split())[:200]}); expected a tag that "
            "'fetalflex release' made"
        ) from error
