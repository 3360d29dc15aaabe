"""Names of releases, and manifests that are read as strictly as they are written."""

from pathlib import Path
from typing import Any

import pytest

from fetalflex.errors import ArtifactError, UsageError
from fetalflex.release.card import dataset_card
from fetalflex.release.manifest import MANIFEST, CenterNote, Images, Manifest, check_tag, read_manifest, write_manifest


def manifest(marked: str | None = None, tag: str = "v1", **more: Any) -> Manifest:
    passed = marked is None
    criterion = {"metric": "kid", "value": 0.1, "bound": "<= 0.3", "passed": passed, "reason": "near enough"}
    counts = {"by_kind": {"normal": 4}, "by_plane": {"transventricular": 4}, "by_anomaly": {}, "by_center": {"n": 4}}
    center = CenterNote(name="n", title="North", role="normal", licence="CC BY", consent="board 7", images=9)
    given: dict[str, Any] = {
        "tag": tag, "parent": "c" * 40, "marked": marked, "gate": {"passed": passed, "criteria": [criterion]},
        "images": Images(total=4, accepted=3, table_sha256="0" * 64, **counts), "seeds": {"data": 1, "sample": 2},
        "model_sha256": "1" * 64, "environment": {"fetalflex": "0.1.0", "kind": {}}, "code": {}, "centers": (center,),
    }  # fmt: skip
    return Manifest(**given | more)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a..b", "a.lock", "é", "x" * 65])
def test_names_that_git_would_refuse_are_refused_first(name: str) -> None:
    with pytest.raises(UsageError, match="by convention"):
        check_tag(name)


def test_a_manifest_is_read_back_as_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest())
    assert read_manifest(tmp_path) == manifest()


@pytest.mark.parametrize("text", ["", "{}", '{"form": 2}', "null"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).parent.mkdir()
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="no manifest of a release"):
        read_manifest(tmp_path)


def test_the_card_says_terms_consent_verdict_and_limits() -> None:
    card = dataset_card(manifest(), {}, {})
    for part in ("CC BY", "board 7", "accepted this release", "Not for diagnosis", "3 of 4", "accepted-*.parquet"):
        assert part in card
    assert "**Warning: the gate rejected" in dataset_card(manifest("kid: too far"), {}, {})
