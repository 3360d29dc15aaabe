"""Serving a workspace's schedules: one process starts its flows when they are due, or asked for on Prefect's page."""

import hashlib
import os
import platform
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from fetalflex.errors import UsageError
from flows.onboard import onboard
from flows.regenerate import regenerate
from flows.verify import verify
from tasks.process import exclusive
from tasks.server import answering
from tasks.workspace import state_folder

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


@dataclass(frozen=True)
class Schedules:
    """When flows are due: cron lines (empty: only on demand), and for the regeneration hours instead, where given.

    `name` stands before the deployments' names, where several workspaces share a Prefect server.
    """

    regenerate: str = "0 3 1 * *"
    every_hours: float | None = None
    verify: str = "0 5 * * 0"
    name: str = ""


def deployments(root: Path, schedules: Schedules, regeneration: dict[str, Any]) -> list["RunnerDeployment"]:
    """Return the deployments, tagged with their workspace: `regenerate/monthly`, `verify/weekly`, `onboard/on-demand`.

    Each runs once at a time, and what comes meanwhile waits; a run's lock keeps different ones apart in a workspace.
    Raises: UsageError for a cron line that is none.
    """
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    more: dict[str, Any] = {
        "concurrency_limit": one, "entrypoint_type": EntrypointType.MODULE_PATH, "tags": [_owner(root)],
    }  # fmt: skip
    before = f"{schedules.name}-" if schedules.name else ""
    due = (
        {"interval": schedules.every_hours * 3600} if schedules.every_hours else {"cron": schedules.regenerate or None}
    )
    try:
        made = [
            regenerate.to_deployment(f"{before}monthly", parameters=regeneration, **due, **more),
            verify.to_deployment(f"{before}weekly", cron=schedules.verify or None, **more),
            onboard.to_deployment(f"{before}on-demand", **more),
        ]
    except ValueError as error:
        raise UsageError(f"a schedule cannot be read: {' '.join(str(error).split())[:200]}") from error
    return cast("list[RunnerDeployment]", made)  # outside of an event loop they are no coroutines


def _owner(root: Path) -> str:
    """Return the tag of a workspace's deployments; its path stays on this machine."""
    return "workspace:" + hashlib.sha256(f"{platform.node()}:{root.resolve()}".encode()).hexdigest()[:12]


def check_names(root: Path, made: list["RunnerDeployment"]) -> None:
    """Look whether Prefect's server knows these names as another workspace's: it would run ours in their place.

    Raises: UsageError for one that it does.
    """
    with get_client(sync_client=True) as client:
        for item in made:
            name = f"{item.flow_name}/{item.name}"
            try:
                owners = {t for t in client.read_deployment_by_name(name).tags if t.startswith("workspace:")}
            except ObjectNotFound:
                continue
            if owners - {_owner(root)}:
                raise UsageError(
                    f"Prefect's server has {name} of another workspace: give this one's a name of their own "
                    f"(fetalflex serve --name NAME), or remove it (prefect deployment delete {name})"
                )


def serve_workspace(root: Path, schedules: Schedules, regeneration: dict[str, Any]) -> None:
    """Serve until stopped. The process stands in the workspace, as its flows do.

    Raises: WorkspaceError for a second, or a server that does not answer; UsageError for names that are another's.
    """
    made = deployments(root, schedules, regeneration)
    os.chdir(root)
    # Prefect 3.8 stops its runner at SIGTERM, and its own call to do so once more is never awaited.
    warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
    with exclusive(state_folder(root) / "serve.lock", "the schedules of this workspace are served already"):
        with answering():
            check_names(root, made)
        serve(*made)
