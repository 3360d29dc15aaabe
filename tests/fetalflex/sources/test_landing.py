from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import QuarantineError, Reason, SourceError, UsageError, WorkspaceError
from fetalflex.sources.base import Offer, refuse
from fetalflex.sources.landing import land, read_refusals
from tests.fetalflex.sources.trees import KEY, OTHER_KEY, contents, states


class Killed(BaseException):
    """Stands for the process's end."""


def offers(names: list[str], killed_in: str = "") -> Iterator[Offer]:
    for name in names:
        yield Offer(name, "1", len(name), partial(write, name, killed_in))


def write(name: str, killed_in: str, target: Path) -> None:
    target.write_text(name if name != killed_in else "half")
    if name == killed_in:
        raise Killed


@given(cut=st.integers(0, 400), killed=st.integers(0, 5))
def test_after_a_kill_anywhere_everything_arrives_once(cut: int, killed: int, tmp_path_factory) -> None:
    into = tmp_path_factory.mktemp("kill") / "c"
    names = [f"n{i}" for i in range(6)]
    with pytest.raises(Killed):
        list(land(offers(names, names[killed]), into, KEY, 6))
    journal = into.parent / ".c.fetch" / "journal"
    text = journal.read_bytes()
    journal.write_bytes(text[: max(len(text) - cut, 0)])  # lines lost, the last one cut
    list(land(offers(names), into, KEY, 6))
    assert contents(into) == {n.encode(): 1 for n in names}
    assert states(list(land(offers(names), into, KEY, 6))) == {"known": 6}


def test_a_file_that_went_or_shrank_since_arrives_again(tmp_path: Path) -> None:
    into = tmp_path / "c"
    list(land(offers(["gone", "cut", "fine"]), into, KEY, 3))
    for path in into.rglob("*.dcm"):
        if path.read_text() == "gone":
            path.unlink()
        elif path.read_text() == "cut":
            path.write_text("c")
    assert states(list(land(offers(["gone", "cut", "fine"]), into, KEY, 3))) == {"new": 2, "known": 1}
    assert contents(into) == {b"gone": 1, b"cut": 1, b"fine": 1}


def test_what_is_offered_twice_arrives_once(tmp_path: Path) -> None:
    events = list(land(offers(["a", "a"]), tmp_path / "c", KEY, 2))
    assert [e.reason for e in events] == [None, Reason.DUPLICATE]
    assert [reason for reason, _ in read_refusals(tmp_path / "c").values()] == [Reason.DUPLICATE]
    assert states(list(land(offers(["a"]), tmp_path / "c", KEY, 1))) == {"known": 1}


def test_refusals_are_kept_with_their_reason_until_the_instance_arrives(tmp_path: Path) -> None:
    (event,) = land([refuse("a", Reason.ENCRYPTED, "is\nencrypted")], tmp_path / "c", KEY, 1)
    assert read_refusals(tmp_path / "c") == {event.id: (Reason.ENCRYPTED, "is encrypted")}
    list(land(offers(["a"]), tmp_path / "c", KEY, 1))
    assert read_refusals(tmp_path / "c") == {}


def test_equal_bytes_are_listed_among_the_refusals_once_however_often_they_are_offered(tmp_path: Path) -> None:
    def same(target: Path) -> None:
        target.write_text("same")

    for _ in range(3):
        list(land([Offer(name, "1", 4, same) for name in ("a", "b")], tmp_path / "c", KEY, 2))
    assert [reason for reason, _ in read_refusals(tmp_path / "c").values()] == [Reason.DUPLICATE]
    journal = (tmp_path / ".c.fetch" / "journal").read_text()
    assert journal.count("duplicate") == 1
    list(land([Offer("b", "1", 4, same)], tmp_path / "c", KEY, 1))
    assert read_refusals(tmp_path / "c") == {}


def test_two_fetches_into_one_center_exclude_each_other(tmp_path: Path) -> None:
    first = land(offers(["a", "b"]), tmp_path / "c", KEY, 2)
    next(first)
    with pytest.raises(WorkspaceError, match="another fetch"):
        next(land(offers(["a"]), tmp_path / "c", KEY, 1))
    first.close()
    assert states(list(land(offers(["a", "b"]), tmp_path / "c", KEY, 2))) == {"known": 1, "new": 1}


def test_another_key_is_refused_since_everything_would_arrive_twice(tmp_path: Path) -> None:
    list(land(offers(["a"]), tmp_path / "c", KEY, 1))
    with pytest.raises(UsageError, match="another pseudonym key"):
        list(land(offers(["a"]), tmp_path / "c", OTHER_KEY, 1))


def test_errors_name_no_path_of_the_source(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        raise OSError(5, "Input/output error", "/DOE^JANE/scan.dcm")

    with pytest.raises(SourceError) as caught:
        list(land([Offer("DOE^JANE/scan.dcm", "1", 1, fail)], tmp_path / "c", KEY, 1))
    assert "DOE" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_refused_delivery_leaves_nothing(tmp_path: Path) -> None:
    def half(target: Path) -> None:
        target.write_text("half")
        raise QuarantineError(Reason.TRUNCATED, "ends early")

    (event,) = land([Offer("a", "1", 1, half)], tmp_path / "c", KEY, 1)
    assert event.state == "refused"
    assert not contents(tmp_path / "c")
