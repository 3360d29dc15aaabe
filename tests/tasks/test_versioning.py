"""DVC through its command line: graph, status, repro."""

from pathlib import Path

import pytest

from fetalflex.errors import StageError, WorkspaceError
from tasks import versioning
from tests.tasks.toy import make_toy


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return make_toy(tmp_path)


def test_graph_lists_stages_after_what_they_need(toy: Path) -> None:
    assert versioning.graph(toy) == {
        "ingest@a": [],
        "ingest@b": [],
        "masks": ["ingest@a", "ingest@b"],
        "gate": ["masks"],
    }


def test_the_graph_is_remembered_until_a_file_changes_that_it_comes_from(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(versioning, "graph", lambda root: asked.append(root) or {"b": [], "a": ["b"]})
    for _ in range(2):
        assert list(versioning.known_graph(toy).items()) == [("b", []), ("a", ["b"])]
    assert len(asked) == 1
    (toy / "more.dvc").write_text("outs: []\n")
    versioning.known_graph(toy)
    (toy / "params.yaml").write_text("ingest: {centers: {a: frames}}\n")
    versioning.known_graph(toy)
    (toy / ".fetalflex" / "graph.json").write_text("half a fi")
    assert list(versioning.known_graph(toy)) == ["b", "a"]
    assert len(asked) == 4


def test_status_gives_reasons_and_writes_nothing(toy: Path) -> None:
    before = sorted(p.name for p in toy.rglob("*") if ".dvc/" not in str(p) and ".git/" not in str(p))
    found = versioning.status(toy)
    assert any("deleted data/frames" in reason or "deps data/frames" in reason for reason in found["masks"])
    assert sorted(p.name for p in toy.rglob("*") if ".dvc/" not in str(p) and ".git/" not in str(p)) == before


def test_repro_runs_one_stage_and_records_it(toy: Path) -> None:
    versioning.repro(toy, "ingest@a")
    assert versioning.outputs(toy, "ingest@a") == ["data/frames/a"]
    assert versioning.lock_entry(toy, "ingest@b") is None
    assert "ingest@a" not in versioning.status(toy)


def test_a_failing_stage_is_named(toy: Path) -> None:
    for stage in ("ingest@a", "ingest@b", "masks"):
        versioning.repro(toy, stage)
    (toy / "broken").touch()
    with pytest.raises(StageError, match="gate failed"):
        versioning.repro(toy, "gate")
    assert versioning.lock_entry(toy, "gate") is None


def test_a_deleted_output_comes_back_from_the_cache(toy: Path) -> None:
    versioning.repro(toy, "ingest@a")
    (toy / "data/frames/a/x").unlink()
    assert versioning.restore(toy, "data/frames/a")
    assert (toy / "data/frames/a/x").read_text() == "a\n"


def test_dvc_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="dvc status failed"):
        versioning.status(tmp_path)
