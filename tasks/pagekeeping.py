"""Whether the report's page still shows what is there: a run with nothing to do does not draw it again.

So the page tells of the last run that did something, and of this very state of the dataset.
"""

import hashlib
from pathlib import Path

from fetalflex.artifacts import atomic, file_sha256
from tasks import fingerprints
from tasks.workspace import git_commit, state_folder

_READ = ("params.yaml", "dvc.lock", "centers/*.yaml", "reports/*.html", "reports/*.png")


def current_page(root: Path) -> Path | None:
    """Return the page, where it was written of this state of the dataset by this software; else None."""
    note = _note(root)
    if not note.is_file():
        return None
    name, _, key = note.read_text().partition("\n")
    page = root / name
    return page if page.is_file() and key == _key(root) else None


def note_page(root: Path, page: Path) -> None:
    """Note of which state the page tells that has just been written."""
    with atomic(_note(root)) as partial:
        partial.write_text(f"{page.relative_to(root)}\n{_key(root)}")


def _note(root: Path) -> Path:
    return state_folder(root) / "page"


def _key(root: Path) -> str:
    commit, dirty = git_commit(root)
    parts = [commit, str(dirty), fingerprints.files_fingerprint("tasks.report")]
    parts += [f"{p.relative_to(root)}:{file_sha256(p)}" for pattern in _READ for p in sorted(root.glob(pattern))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
