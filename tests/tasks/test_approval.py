"""The decision: asked for on a terminal until it is clear, and recorded without a patient's data."""

import io
from pathlib import Path

import pytest

from fetalflex.errors import UsageError
from tasks.approval import Decision, add_approval, ask_in_terminal, check_name, make_entry, read_approvals


def _answer(monkeypatch: pytest.MonkeyPatch, text: str) -> Decision:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return ask_in_terminal("north")


def test_yes_asks_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _answer(monkeypatch, "maybe\nYES\n  Dr.  A. Steward \n") == Decision(True, "Dr. A. Steward", "terminal")


def test_yes_without_a_name_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _answer(monkeypatch, "y\n\ny\nAda\n").name == "Ada"


@pytest.mark.parametrize("text", ["no\n", "n\n", "", "yes\n"])
def test_no_and_the_end_of_input_refuse(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert not _answer(monkeypatch, text).approved


@pytest.mark.parametrize("name", ["", "  ", "a\x1b[2Jb", "x" * 200])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name of a person"):
        check_name(name)


def test_approvals_are_kept_in_order_and_not_written_twice(tmp_path: Path) -> None:
    first = make_entry(Decision(True, "Ada", "terminal"), {"files": 3})
    assert {"approved_by", "at", "asked", "software", "files"} == set(first)
    add_approval(tmp_path, "north", first)
    add_approval(tmp_path, "north", first)
    add_approval(tmp_path, "north", first | {"files": 4})
    assert [a["files"] for a in read_approvals(tmp_path, "north")] == [3, 4]
