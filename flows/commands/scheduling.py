"""Commands of schedules: serve, regenerate."""

from pathlib import Path
from typing import Annotated

import typer

from fetalflex.errors import StageError

AllowFailing = Annotated[
    bool, typer.Option("--allow-failing-gate", help="Release past a rejecting gate, marked so.")
]  # fmt: skip
Repository = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Where runs are cloned from and published to; else `origin`.")
]


def serve(
    regenerate: Annotated[
        str, typer.Option(metavar="CRON", help="When to regenerate; '' for on demand.")
    ] = "0 3 1 * *",
    every: Annotated[float | None, typer.Option(metavar="HOURS", help="Regenerate every HOURS instead.")] = None,
    verify: Annotated[str, typer.Option(metavar="CRON", help="When to verify; '' for on demand.")] = "0 5 * * 0",
    repository: Repository = "",
    allow_failing_gate: AllowFailing = False,
    port: Annotated[int, typer.Option(min=0, help="Of the Prefect server started here; 0: any free one.")] = 4200,
    name: Annotated[str, typer.Option(help="Before the deployments' names, where workspaces share a server.")] = "",
) -> None:
    """Serve the schedules until Ctrl-C: regenerate (monthly), verify (weekly), onboard (on demand).

    On the Prefect server that PREFECT_API_URL names, or one that is started here with its page. Failures are told to
    FETALFLEX_NOTIFY_WEBHOOK or FETALFLEX_NOTIFY_EMAIL. One process per workspace.
    """
    from tasks.workspace import check_ready, find_root

    root = find_root(Path.cwd())
    check_ready(root)
    from tasks.server import shared_server

    with shared_server(root, port or None) as server:
        if server is not None:
            server.wait()  # before Prefect is imported, which reads the address
            typer.echo(f"Prefect's page: {server.page}")
        from flows.serve import Schedules, serve_workspace

        regeneration = {"repository_url": repository, "allow_failing_gate": allow_failing_gate}
        serve_workspace(root, Schedules(regenerate, every, verify, name), regeneration)


def regenerate(
    tag: Annotated[str, typer.Argument(metavar="TAG", help="The release's name; else vYYYY.MM.")] = "",
    repository: Repository = "",
    allow_failing_gate: AllowFailing = False,
) -> None:
    """Do now what the schedule does: clean clone, pull, pipeline, gate, release, push; on a branch of its own.

    A failed or refused run publishes nothing and says why. Exit code 1 then.
    """
    from tasks.workspace import check_ready, find_root

    root = find_root(Path.cwd())
    check_ready(root)
    from tasks.server import prefect_settings, shared_server

    with shared_server(root) as server, prefect_settings(server):
        from flows.regenerate import regenerate as flow

        state = flow(tag, repository, allow_failing_gate, wait_hours=0.0, return_state=True)
    if not state.is_completed():
        raise StageError(" ".join((state.message or "").split()))
    typer.echo(state.message)
