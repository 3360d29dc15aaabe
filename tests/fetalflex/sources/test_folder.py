import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import Reason, SourceError, UsageError
from fetalflex.sources import folder
from fetalflex.sources.base import Fetched, Limits
from fetalflex.sources.folder import FolderSource
from tests.fetalflex.sources.trees import KEY, contents, fetch, reasons, states, write_tree

NAME = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=9
)
TREES = st.dictionaries(
    st.lists(NAME.filter(lambda n: n not in (".", "..")), min_size=1, max_size=3).map("/".join),
    st.binary(max_size=300).map(lambda b: bytes(128) + b"DICM" + b),
    min_size=1,
    max_size=8,
)


def assert_arrived_once(bring: Callable[[], list[Fetched]], into: Path, files: dict[str, bytes]) -> None:
    """Fetch twice: each content is there once, its copies are told, and the second time nothing is new."""
    different = set(files.values())
    for state in ("new", "known"):
        events = bring()
        assert states(events)[state] == len(different)
        assert reasons(events)[Reason.DUPLICATE] == len(files) - len(different)
        assert contents(into) == dict.fromkeys(different, 1)


@given(files=TREES)
def test_every_file_of_a_tree_arrives_once_and_a_second_fetch_adds_nothing(
    files: dict[str, bytes], tmp_path_factory
) -> None:
    here = tmp_path_factory.mktemp("tree")
    files = {n: d for n, d in files.items() if not any(o.startswith(f"{n}/") for o in files)}
    source = FolderSource(write_tree(here / "source", files))
    listing = source.listing()
    assert (listing.instances, listing.size_bytes) == (len(files), sum(map(len, files.values())))
    assert_arrived_once(lambda: fetch(FolderSource(here / "source"), here / "in" / "c"), here / "in" / "c", files)


def test_names_that_arrive_and_the_journal_carry_nothing_of_the_source(tmp_path: Path) -> None:
    source = FolderSource(write_tree(tmp_path / "source", {"DOE^JANE/19900101/scan.dcm": b"x"}))
    fetch(source, tmp_path / "in" / "c")
    told = " ".join(str(p.relative_to(tmp_path / "in")) for p in (tmp_path / "in").rglob("*"))
    told += (tmp_path / "in" / ".c.fetch" / "journal").read_text()
    assert not any(word in told for word in ("DOE", "JANE", "1990", "scan"))


def test_links_and_special_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "source", {"a/file": b"inside"})
    write_tree(tmp_path, {"outside/secret": b"secret"})
    (root / "link").symlink_to(tmp_path / "outside" / "secret")
    (root / "folder-link").symlink_to(tmp_path / "outside")
    (root / "dangling").symlink_to("nowhere")
    (root / "to-parent").symlink_to("..")
    (root / "again").symlink_to("a/file")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(root / "socket"))
    events = fetch(FolderSource(root), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.OUTSIDE_TREE: 6, Reason.DUPLICATE: 1}
    assert contents(tmp_path / "in" / "c") == {b"inside": 1}


def test_files_of_one_file_system_are_linked_and_others_copied(tmp_path: Path, monkeypatch) -> None:
    root = write_tree(tmp_path / "source", {"a": b"a"})
    fetch(FolderSource(root), tmp_path / "in" / "linked")
    assert (root / "a").stat().st_nlink == 2

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(folder.os, "link", refuse)
    fetch(FolderSource(root), tmp_path / "in" / "copied")
    (copied,) = (tmp_path / "in" / "copied").rglob("*.dcm")
    assert copied.read_bytes() == b"a"
    assert copied.stat().st_mode & 0o077 == 0
    assert (root / "a").stat().st_nlink == 2


def test_a_file_exchanged_for_a_link_while_the_tree_is_read_is_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "source", {"a": b"a", "b": b"b"})
    (tmp_path / "secret").write_bytes(b"secret")
    events = FolderSource(root).fetch(tmp_path / "in" / "c", KEY)
    assert next(events).state == "new"
    (root / "b").unlink()
    (root / "b").symlink_to(tmp_path / "secret")
    assert [e.reason for e in events] == [Reason.OUTSIDE_TREE]
    assert contents(tmp_path / "in" / "c") == {b"a": 1}


def test_new_and_changed_files_are_all_that_a_second_fetch_brings(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "source", {"a": b"old", "b": b"b"})
    fetch(FolderSource(root), tmp_path / "in" / "c")
    (root / "a").unlink()
    write_tree(root, {"a": b"newer", "z/new": b"n"})
    assert states(fetch(FolderSource(root), tmp_path / "in" / "c")) == {"new": 2, "known": 1}
    assert contents(tmp_path / "in" / "c") == {b"old": 1, b"newer": 1, b"b": 1, b"n": 1}


def test_a_second_delivery_under_the_names_of_the_first_replaces_nothing(tmp_path: Path) -> None:
    fetch(FolderSource(write_tree(tmp_path / "first", {"IM1": b"first 1", "IM2": b"first 2"})), tmp_path / "in" / "c")
    second = write_tree(tmp_path / "second", {"IM1": b"later 1", "IM2": b"later 2"})
    for name in ("IM1", "IM2"):  # of one size and one time, as on a disk that counts in seconds
        os.utime(second / name, ns=((tmp_path / "first" / name).stat().st_mtime_ns + 2 * 10**9,) * 2)
    assert states(fetch(FolderSource(second), tmp_path / "in" / "c")) == {"new": 2}
    assert contents(tmp_path / "in" / "c") == dict.fromkeys((b"first 1", b"first 2", b"later 1", b"later 2"), 1)


def test_a_delivery_that_holds_the_former_one_elsewhere_adds_only_what_is_new(tmp_path: Path) -> None:
    fetch(FolderSource(write_tree(tmp_path / "first", {"a": b"a", "b": b"b"})), tmp_path / "in" / "c")
    later = FolderSource(write_tree(tmp_path / "later", {"export/1/a": b"a", "export/1/b": b"b", "export/2/c": b"c"}))
    assert states(fetch(later, tmp_path / "in" / "c")) == {"known": 2, "new": 1}


def test_large_files_and_deep_folders_are_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "source", {"large": b"x" * 11, "1/2/3/4/deep": b"d", "1/2/fine": b"f"})
    events = fetch(FolderSource(root, Limits(file_bytes=10, depth=3)), tmp_path / "in" / "c")
    assert reasons(events) == {Reason.TOO_LARGE: 1, Reason.NESTED_TOO_DEEP: 1}
    assert contents(tmp_path / "in" / "c") == {b"f": 1}


def test_a_source_that_is_missing_empty_or_the_center_itself_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder"):
        FolderSource(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no regular file"):
        fetch(FolderSource(tmp_path / "empty"), tmp_path / "in" / "c")
    root = write_tree(tmp_path / "in" / "c", {"a": b"a"})
    with pytest.raises(UsageError, match="within one another"):
        fetch(FolderSource(root), tmp_path / "in" / "c")


def test_a_name_that_is_no_text_arrives_too(tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    with open(os.fsencode(root) + b"/\xff\xfe", "wb") as out:  # noqa: PTH123 - bytes
        out.write(b"x")
    assert states(fetch(FolderSource(root), tmp_path / "in" / "c")) == {"new": 1}
    assert states(fetch(FolderSource(root), tmp_path / "in" / "c")) == {"known": 1}
