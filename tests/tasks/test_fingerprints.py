"""What stands for code and libraries in DVC's graph."""

from pathlib import Path

from tasks import fingerprints
from tasks.fingerprints import code_fingerprint, import_closure, source_root


def test_the_closure_follows_imports_inside_functions() -> None:
    names = {str(p.relative_to(source_root())) for p in import_closure("flows.score")}
    assert {"flows/score.py", "tasks/score.py", "fetalflex/quality/fidelity/kernel.py"} <= names
    assert "fetalflex/model/prealign.py" in names, "imported inside a function"
    assert "fetalflex/phantom/scene.py" not in names


def test_imports_are_found_wherever_a_statement_may_stand(tmp_path: Path) -> None:
    blocks = (
        "try:\n    import flows.a\nexcept ImportError:\n    import flows.b\nelse:\n    import flows.c\n"
        "finally:\n    import flows.d\nif 1:\n    pass\nelse:\n    from flows import e\nwith x:\n    import flows.f\n"
        "for i in x:\n    import flows.g\nelse:\n    import flows.h\nwhile x:\n    import flows.i\n"
        "match x:\n    case 1:\n        import flows.j\nclass K:\n    async def k(self):\n        import flows.k\n"
        "try:\n    pass\nexcept* OSError:\n    import flows.l\n"
    )
    (tmp_path / "x.py").write_text(blocks)
    assert set(fingerprints._imports(tmp_path / "x.py")) == {"flows", *(f"flows.{c}" for c in "abcdefghijkl")}


def test_the_fingerprint_follows_the_code(monkeypatch: object) -> None:
    assert code_fingerprint("gate") == code_fingerprint("gate")
    assert code_fingerprint("gate") != code_fingerprint("score")


def test_the_file_is_rewritten_only_when_a_value_changes(tmp_path: Path) -> None:
    assert fingerprints.refresh(tmp_path, ["gate"], "k1", {"score": "none"})
    written = (tmp_path / fingerprints.FILE).stat().st_mtime_ns
    assert not fingerprints.refresh(tmp_path, ["gate"], "k1", {"score": "none"})
    assert (tmp_path / fingerprints.FILE).stat().st_mtime_ns == written
    assert fingerprints.refresh(tmp_path, ["gate"], "k2", {"score": "none"})
    assert fingerprints.read(tmp_path)["key"] == "k2"
    assert fingerprints.refresh(tmp_path, ["gate"], "k2", {"score": "other"})
    assert fingerprints.read(tmp_path)["libraries"]["torch"]
