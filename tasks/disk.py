"""A full disk, told in one line wherever it shows first: in a file of ours, or in a database of a library's."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from fetalflex.errors import WorkspaceError

_SQLITE = "database or disk is full"


@contextmanager
def telling_of_a_full_disk() -> Iterator[None]:
    """Turn whatever a full disk leads to into one line. Raises: WorkspaceError."""
    try:
        yield
    except Exception as error:
        if not _is_of_a_full_disk(error):
            raise
        raise WorkspaceError(
            "no space is left on the disk: free some (old caches: 'dvc gc -w') and run again; nothing is lost"
        ) from error


def _is_of_a_full_disk(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, is of a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        if _SQLITE in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
