"""dvc.lock and dvc's own list of what is in use, both written in place: a kill in the middle leaves half a file.

Half a dvc.lock would say that the stages it lacks never ran. So a copy of the last whole one is kept beside the run's
other state, and put back where what lies there is a beginning of it.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from fetalflex.artifacts import atomic
from fetalflex.errors import WorkspaceError
from tasks.progress import console
from tasks.workspace import state_folder

NAME = "dvc.lock"


def keep_lock(root: Path) -> None:
    """Keep a copy of dvc.lock as it is, which the caller knows to be whole."""
    if (root / NAME).is_file():
        with atomic(state_folder(root) / NAME) as partial:
            partial.write_bytes((root / NAME).read_bytes())


def mend_lock(root: Path) -> None:
    """Put back what a killed dvc left half-written, then keep a copy of dvc.lock. The caller holds the run's lock.

    Raises: WorkspaceError where dvc.lock is half a file and there is no copy.
    """
    in_use = root / ".dvc" / "tmp" / "rwlock"
    if in_use.is_file() and _parsed(json.loads, in_use.read_text()) is None:
        in_use.unlink()
    path, copy = root / NAME, state_folder(root) / NAME
    if not path.is_file():
        return
    found = _stages(path.read_text())
    known = _stages(copy.read_text()) if copy.is_file() else None
    if known is not None and (found is None or _is_beginning(found, known)):
        with atomic(path) as partial:
            partial.write_bytes(copy.read_bytes())
        console.print("dvc.lock was cut off while dvc wrote it: the one before it is back")
    elif found is None:
        raise WorkspaceError(
            "dvc.lock is half a file, as a killed dvc leaves it: 'git checkout dvc.lock' (or remove it where git has "
            "none), then 'fetalflex run'; dvc finds in its cache what was made since"
        )
    else:
        keep_lock(root)


def _is_beginning(found: dict[str, Any], known: dict[str, Any]) -> bool:
    """Return whether later stages are missing, and the earlier ones are the known ones but the one at work."""
    names = list(found)
    others = sum(found[name] != known[name] for name in names if name in known)
    return len(names) < len(known) and names == list(known)[: len(names)] and others <= 1


def _stages(text: str) -> dict[str, Any] | None:
    """Return stage -> entry; None where the text is no dvc.lock."""
    lock = _parsed(yaml.safe_load, text)
    stages = lock.get("stages") if isinstance(lock, dict) else None
    return stages if isinstance(stages, dict) and text.endswith("\n") else None


def _parsed(parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except (ValueError, yaml.YAMLError):
        return None
