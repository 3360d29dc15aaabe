"""A public set becomes a center; a second set of the same patients joins it."""

from pathlib import Path

import pytest
import yaml

from fetalflex.errors import SourceError, UsageError
from fetalflex.params import preset_text
from tasks.importing import import_center
from tasks.workspace import load_center, load_params
from tests.fetalflex.sources import test_wrap

hc18 = test_wrap.hc18
transventricular = test_wrap.transventricular


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    root.mkdir()
    (root / "params.yaml").write_text(preset_text("tiny"))
    return root


def test_a_set_becomes_a_listed_center_with_a_profile(workspace: Path, hc18: Path) -> None:
    (made,) = import_center(workspace, "hc18", hc18, "nijmegen")
    assert made.name == "nijmegen"
    assert made.files == 6
    assert load_params(workspace).ingest.centers["nijmegen"] == "frames"
    assert load_center(workspace, "nijmegen").role == "normal"


def test_a_second_set_joins_the_center_and_completes_its_profile(
    workspace: Path, hc18: Path, transventricular: Path
) -> None:
    import_center(workspace, "hc18", hc18, "one")
    first = load_center(workspace, "one")
    path = workspace / "centers/one.yaml"
    path.write_text(path.read_text().replace(first.title, "Corrected by hand"))
    import_center(workspace, "barcelona-transventricular", transventricular, "one")
    assert sorted(p.name for p in (workspace / "incoming/one").iterdir()) == ["barcelona-transventricular", "hc18"]
    joined = load_center(workspace, "one")
    assert joined.title == "Corrected by hand"
    assert first.planes.items() <= joined.planes.items()
    assert first.licence in joined.licence


def test_the_same_set_twice_is_refused_and_nothing_changes(workspace: Path, hc18: Path) -> None:
    import_center(workspace, "hc18", hc18, "one")
    before = sorted(p.name for p in (workspace / "incoming").rglob("*"))
    with pytest.raises(UsageError, match="incoming/one/hc18 exists"):
        import_center(workspace, "hc18", hc18, "one")
    assert sorted(p.name for p in (workspace / "incoming").rglob("*")) == before


def test_a_wrong_source_leaves_no_center(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError):
        import_center(workspace, "hc18", tmp_path / "empty", "one")
    assert not (workspace / "incoming").exists()
    assert "one" not in yaml.safe_load((workspace / "params.yaml").read_text())["ingest"]["centers"]
