"""A disk that is full for real, in a file and in a database; what else goes wrong is passed on."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetalflex.errors import StageError, WorkspaceError
from tasks.disk import telling_of_a_full_disk

FULL = Path("/dev/full")  # Linux's device on which every write finds no space


@pytest.fixture
def full_database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database that may not grow: SQLite says of it what it says on a full disk."""
    database = sqlite3.connect(tmp_path / "x.db")
    database.execute("create table t (x)")
    database.execute("pragma max_page_count = 3")
    yield database
    database.close()


def test_a_full_disk_under_a_file_is_one_line() -> None:
    with pytest.raises(WorkspaceError, match="no space is left on the disk: free some"), telling_of_a_full_disk():
        FULL.write_text("x")


def _walk(database: sqlite3.Connection) -> None:
    try:
        database.execute("insert into t values (zeroblob(100000))")
    except sqlite3.OperationalError as error:
        raise StageError("the walk broke off") from error


def test_a_full_disk_under_a_database_is_the_same_line_also_behind_other_errors(
    full_database: sqlite3.Connection,
) -> None:
    with pytest.raises(WorkspaceError, match="no space is left on the disk: free some"), telling_of_a_full_disk():
        _walk(full_database)


def test_other_errors_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), telling_of_a_full_disk():
        (tmp_path / "absent").read_text()
    with pytest.raises(StageError, match="walk"), telling_of_a_full_disk():
        raise StageError("the walk broke off")
