"""What happens when a scheduled flow fails: whom the environment names is told."""

from typing import Any

from tasks.notify import notify


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell of a failed, refused or crashed flow run (a hook of Prefect)."""
    notify(flow.name, flow_run.name, state.name or state.type.value, " ".join((state.message or "").split()))
