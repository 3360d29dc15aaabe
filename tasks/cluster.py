"""The task runner `dask`: a cluster of this machine's processes for the length of a stage, or a standing one.

Workers need the same environment, and the workspace at the same path. They write to the Prefect server of the run:
a cluster of other machines needs a server that they reach, named by PREFECT_API_URL.
"""

import logging
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner

from fetalflex.errors import ParameterError, WorkspaceError
from fetalflex.params import Compute
from tasks.workspace import find_root

_CONNECT_LIMIT_S = 10.0


def dask_runner(compute: Compute) -> TaskRunner[Any]:
    """Return a runner on Dask. Raises: ParameterError without the extra, WorkspaceError where no scheduler answers."""
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise ParameterError(
            "params.yaml: compute.runner: dask needs the extra: pip install 'fetalflex[dask]'"
        ) from error
    logging.getLogger("distributed").setLevel(logging.ERROR)
    runner: TaskRunner[Any]
    if compute.dask_address is not None:
        _check_answers(compute.dask_address)
        runner = DaskTaskRunner(address=compute.dask_address)
    else:
        runner = DaskTaskRunner(cluster_kwargs=_local_cluster(compute.workers, find_root(Path.cwd())))
    return runner


def _local_cluster(workers: int, root: Path) -> dict[str, Any]:
    """Return the options of a cluster of processes on loopback, without a dashboard or a limit of memory."""
    scratch = root / ".work" / "dask"
    scratch.mkdir(parents=True, exist_ok=True)
    return {
        "n_workers": workers, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None,
        "memory_limit": 0, "local_directory": str(scratch), "silence_logs": logging.ERROR,
    }  # fmt: skip


def _check_answers(address: str) -> None:
    """Raise where nothing listens at the scheduler's address: Dask itself would try for half a minute."""
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 8786), _CONNECT_LIMIT_S).close()
    except OSError as error:
        raise WorkspaceError(
            f"params.yaml: compute.dask_address: no Dask scheduler answers at {address}: start one ('dask scheduler'), "
            "or set it to null for a cluster of this machine's processes"
        ) from error
