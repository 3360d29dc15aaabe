"""Serving a workspace's schedules: one process starts its flows when they are due, or asked for on Prefect's page."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.types.entrypoint import EntrypointType

from fetalflex.errors import UsageError
from flows.onboard import onboard
from flows.regenerate import regenerate
from flows.verify import verify
from tasks.process import exclusive
from tasks.workspace import state_folder

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


@dataclass(frozen=True)
class Schedules:
    """When flows are due: cron lines (empty: only on demand), and for the regeneration hours instead, where given."""

    regenerate: str = "0 3 1 * *"
    every_hours: float | None = None
    verify: str = "0 5 * * 0"


def deployments(schedules: Schedules, regeneration: dict[str, Any]) -> list["RunnerDeployment"]:
    """Return the workspace's deployments: `regenerate/monthly`, `verify/weekly`, `onboard/on-demand`.

    Each runs once at a time, and what comes meanwhile waits; a run's lock keeps different ones apart in a workspace.
    Raises: UsageError for a cron line that is none.
    """
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    more: dict[str, Any] = {"concurrency_limit": one, "entrypoint_type": EntrypointType.MODULE_PATH}
    due = (
        {"interval": schedules.every_hours * 3600} if schedules.every_hours else {"cron": schedules.regenerate or None}
    )
    try:
        made = [
            regenerate.to_deployment("monthly", parameters=regeneration, **due, **more),
            verify.to_deployment("weekly", cron=schedules.verify or None, **more),
            onboard.to_deployment("on-demand", **more),
        ]
    except ValueError as error:
        raise UsageError(f"a schedule cannot be read: {' '.join(str(error).split())[:200]}") from error
    return cast("list[RunnerDeployment]", made)  # outside of an event loop they are no coroutines


def serve_workspace(root: Path, schedules: Schedules, regeneration: dict[str, Any]) -> None:
    """Serve until stopped. The process stands in the workspace, as its flows do.

    Raises: WorkspaceError for a second.
    """
    made = deployments(schedules, regeneration)
    os.chdir(root)
    # Prefect 3.8 stops its runner at SIGTERM, and its own call to do so once more is never awaited.
    warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
    with exclusive(state_folder(root) / "serve.lock", "the schedules of this workspace are served already"):
        serve(*made)
