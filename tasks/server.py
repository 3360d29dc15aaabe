"""One Prefect server for a whole run: the one PREFECT_API_URL names, or one started here and shared with stages.

Started by uvicorn directly, so that it is one process that dies with the run (Prefect's own temporary servers leak).
"""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from fetalflex.errors import WorkspaceError
from tasks.process import die_with_parent
from tasks.progress import console
from tasks.workspace import state_folder

RESTARTS = 3  # of a server that ended by itself
START_LIMIT_S = 300.0  # only on a machine with far too much to do; a server that ended is seen at once


def prefect_environment(root: Path) -> dict[str, str]:
    """Return the settings that keep Prefect inside the workspace, quiet and offline."""
    return {
        "PREFECT_HOME": str(state_folder(root) / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "WARNING"),
        # A failing stage says one line itself; Prefect's tracebacks go to its server, not to the terminal.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": os.environ.get("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL"),
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLIENT_METRICS_ENABLED": "false",
        "PREFECT_API_REQUEST_TIMEOUT": "120",
        # Old runs leave the database, as old events do: it would grow with every chunk for ever.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": os.environ.get(
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "events,flow_runs"
        ),
    }


def free_port() -> int:
    """Return a free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class UvicornProcess:
    """A web server process of ours on loopback, one process without children, which dies with its parent."""

    name: str
    health: str
    answered = False  # once, to anybody who waited

    def __init__(self, root: Path, app: str, environment: dict[str, str], port: int) -> None:
        """Start it; `wait` before use, so that its seconds pass beside other work."""
        self.port = port
        self.page = f"http://127.0.0.1:{port}"
        self._log = state_folder(root) / f"{self.name.lower()}-server.log"
        self._command = [
            sys.executable, "-m", "uvicorn", *app.split(), "--host", "127.0.0.1", "--port", str(port),
            "--log-level", "warning",
        ]  # fmt: skip
        self._environment = environment
        self.process = self._start("w")

    def _start(self, mode: Literal["w", "a"]) -> subprocess.Popen[bytes]:
        with self._log.open(mode) as log:
            return subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, preexec_fn=die_with_parent,
                start_new_session=True,  # Ctrl-C is for the run, which still has a last state to report
            )  # fmt: skip

    def keep(self, ended: threading.Event) -> None:
        """Start the server again where it ended by itself (the system kills for want of memory), until `ended` is set.

        Its clients ask again for a minute, so a run goes on. A server that never answered, or ends again and again,
        stays down.
        """
        try:
            self.wait()
        except WorkspaceError:
            if not self.answered:  # whoever waits for it says so
                return
        for _ in range(RESTARTS):
            while self.process.poll() is None:
                if ended.wait(1.0):
                    return
            if ended.is_set():
                return
            console.print(f"{self.name}'s server ended by itself (.fetalflex/{self._log.name}): started again")
            self.process = self._start("a")

    def wait(self) -> None:
        """Return when the server answers. Raises: WorkspaceError where it does not."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.page}{self.health}", timeout=5):  # noqa: S310 (http on loopback)
                    self.answered = True
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise WorkspaceError(f"{self.name}'s server did not start; its log: .fetalflex/{self._log.name}")

    def stop(self) -> None:
        """End the server; killed where it does not end by itself within five seconds."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Server(UvicornProcess):
    """A Prefect server."""

    name, health = "Prefect", "/api/health"

    def __init__(self, root: Path, port: int | None = None) -> None:
        """Start it on a free port, or the one given."""
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        env = os.environ | prefect_environment(root)
        env |= {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_API_URL": self.url, "PREFECT_UI_API_URL": self.url}
        super().__init__(root, "--factory prefect.server.api.server:create_app --lifespan on", env, port)


@contextmanager
def shared_server(root: Path, port: int | None = None) -> Iterator[Server | None]:
    """Yield a server for the run (None where PREFECT_API_URL names one); its address is in the environment.

    Prefect reads its settings when it is imported: a process that did so already needs `prefect_settings`, too.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    server, ended = Server(root, port), threading.Event()
    keeper = threading.Thread(target=server.keep, args=(ended,), daemon=True)
    keeper.start()
    os.environ.update(prefect_environment(root) | {"PREFECT_API_URL": server.url})
    try:
        yield server
    finally:
        del os.environ["PREFECT_API_URL"]
        ended.set()
        server.stop()
        keeper.join()


@contextmanager
def prefect_settings(server: Server | None) -> Iterator[None]:
    """Wait for a server and make the Prefect of this process use it (nothing to do where there is none of ours)."""
    if server is None:
        yield
        return
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server.wait()
    with temporary_settings({PREFECT_API_URL: server.url}):
        yield


@contextmanager
def answering() -> Iterator[None]:
    """Turn Prefect's words for a server that does not answer (after a minute of asking) into one line.

    Raises: WorkspaceError.
    """
    import httpx  # Prefect's own client, whose errors it passes on

    try:
        yield
    except (httpx.TransportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "Failed to reach API" not in str(error):
            raise
        place = urlsplit(os.environ.get("PREFECT_API_URL", ""))
        raise WorkspaceError(
            f"Prefect's server at {place.hostname}:{place.port} does not answer: start it again, or unset "
            "PREFECT_API_URL, so that a run has its own; then the same command goes on where it stopped"
        ) from error
