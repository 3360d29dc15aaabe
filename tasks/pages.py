"""Prefect's and MLflow's own pages over the workspace's databases."""

import os
import signal
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from tasks.progress import console
from tasks.server import Server, UvicornProcess, free_port
from tasks.tracking import artifact_root, tracking_uri


class MLflowServer(UvicornProcess):
    """MLflow's pages. Not by 'mlflow ui': that starts a family of processes, which a kill would leave behind."""

    name, health = "MLflow", "/health"

    def __init__(self, root: Path) -> None:
        """Start it on a free port over the workspace's runs."""
        # What 'mlflow ui' hands its workers, too. Only MLflow's own pages may ask it: the default of its middleware.
        store = {"_MLFLOW_SERVER_FILE_STORE": tracking_uri(root), "_MLFLOW_SERVER_ARTIFACT_ROOT": artifact_root(root)}
        super().__init__(root, "mlflow.server.fastapi_app:app", os.environ | store, free_port())


def serve_pages(root: Path, *, open_pages: bool) -> None:
    """Serve both until Ctrl-C or SIGTERM; say where they are once they answer, and open them where asked to.

    Raises: WorkspaceError where a server does not start, or ends by itself.
    """
    with _signals_interrupt(), _both(root) as (prefect, mlflow):
        for name, server in (("Prefect", prefect), ("MLflow", mlflow)):
            server.wait()
            console.print(f"{name + ':':<8} {server.page}", soft_wrap=True)
        console.print("Ctrl-C ends both.")
        if open_pages:
            for server in (prefect, mlflow):
                webbrowser.open(server.page)
        while prefect.process.poll() is None and mlflow.process.poll() is None:
            sleep(0.2)


@contextmanager
def _both(root: Path) -> Iterator[tuple[Server, MLflowServer]]:
    """Yield both servers, which start side by side; they end with the block, however it ends."""
    started: list[Server | MLflowServer] = []
    try:
        prefect = Server(root)
        started.append(prefect)
        mlflow = MLflowServer(root)
        started.append(mlflow)
        yield prefect, mlflow
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        for server in started:
            server.stop()


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C, so that its servers are stopped; Ctrl-C, too, where a shell ignored it."""
    former = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
