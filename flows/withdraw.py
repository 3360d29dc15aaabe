"""A center's leaving, from its removal over the chain without it to the removal of its objects."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetalflex.errors import StageError, WorkspaceError
from flows.release import BUSY, say
from flows.run import run_workspace
from tasks import repository
from tasks.process import exclusive
from tasks.releasing.withdraw import RECORD, Effect, check_withdrawal, effects, remove_center, remove_objects
from tasks.workspace import check_ready, state_folder


@dataclass(frozen=True)
class Withdrawal:
    """A finished withdrawal: what it meant for each release, the new commit, the versions of the model that fell."""

    center: str
    effects: list[Effect]
    commit: str
    models: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return self.__dict__ | {"effects": [e.as_dict() for e in self.effects]}


def foresee(root: Path, center: str) -> list[Effect]:
    """Return what a withdrawal would mean. Raises: UsageError, WorkspaceError where it cannot be."""
    check_ready(root)
    check_withdrawal(root, center)
    return effects(root, center)


def withdraw(root: Path, center: str) -> Withdrawal:
    """Withdraw a center: record and removal, the chain without it, a commit, objects removed from cache and remote.

    The same command goes on where one was cut off. Raises: FetalFlexError.
    """
    found = foresee(root, center)
    if not (root / RECORD).is_file() and (changed := repository.changed_files(root)):
        raise WorkspaceError(f"{len(changed)} files are not committed ({changed[0]}): git add -A && git commit first")
    say(f"{center} leaves: raw files, profile, parameters")
    remove_center(root, center, found)
    say("the chain without it")
    summary = run_workspace(root)
    for outcome in summary.stages:
        if outcome.state in ("Failed", "NotRun"):
            raise StageError(f"stage {outcome.name}: {outcome.message}; the withdrawal goes on with the same command")
    with exclusive(state_folder(root) / "run.lock", BUSY):
        commit = repository.commit_all(root, f"Withdraw center {center}")
        say("its objects leave cache and remote")
        models = remove_objects(root, found)
    return Withdrawal(center, found, commit, models)
