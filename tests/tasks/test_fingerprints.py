"""What stands for code and libraries in DVC's graph."""

from pathlib import Path

from tasks import fingerprints
from tasks.fingerprints import code_fingerprint, import_closure, source_root


def test_the_closure_follows_imports_inside_functions() -> None:
    names = {str(p.relative_to(source_root())) for p in import_closure("flows.score")}
    assert {"flows/score.py", "tasks/score.py", "fetalflex/quality/fidelity/kernel.py"} <= names
    assert "fetalflex/model/prealign.py" in names, "imported inside a function"
    assert "fetalflex/phantom/scene.py" not in names


def test_the_fingerprint_follows_the_code(monkeypatch: object) -> None:
    assert code_fingerprint("gate") == code_fingerprint("gate")
    assert code_fingerprint("gate") != code_fingerprint("score")


def test_the_file_is_rewritten_only_when_a_value_changes(tmp_path: Path) -> None:
    assert fingerprints.refresh(tmp_path, ["gate"], "k1")
    written = (tmp_path / fingerprints.FILE).stat().st_mtime_ns
    assert not fingerprints.refresh(tmp_path, ["gate"], "k1")
    assert (tmp_path / fingerprints.FILE).stat().st_mtime_ns == written
    assert fingerprints.refresh(tmp_path, ["gate"], "k2")
    assert fingerprints.read(tmp_path)["key"] == "k2"
    assert fingerprints.read(tmp_path)["libraries"]["torch"]
