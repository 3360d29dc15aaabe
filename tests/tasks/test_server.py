"""The Prefect server that a run starts for itself."""

import os
import threading
import time
from pathlib import Path

import httpx
import pytest

from fetalflex.errors import WorkspaceError
from tasks.server import Server, answering, free_port, shared_server


@pytest.mark.timeout(300)
def test_a_killed_server_is_started_again_at_its_address_and_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with shared_server(tmp_path) as server:
        assert server is not None
        server.wait()
        first = server.process
        first.kill()
        first.wait()
        deadline = time.monotonic() + 60
        while server.process is first and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.process is not first
        server.wait()
        assert os.environ["PREFECT_API_URL"] == server.url
    assert server.process.poll() is not None
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_that_never_answered_is_an_error_and_is_not_started_again(tmp_path: Path) -> None:
    broken = Server(tmp_path)
    first = broken.process
    first.kill()
    first.wait()
    broken.keep(threading.Event())
    assert broken.process is first
    with pytest.raises(WorkspaceError, match="Prefect's server did not start; its log"):
        broken.wait()


def test_a_server_that_answers_no_more_is_one_line_without_the_address_s_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    monkeypatch.setenv("PREFECT_API_URL", f"http://ada:secret@127.0.0.1:{port}/api")
    told = rf"Prefect's server at 127\.0\.0\.1:{port} does not answer.*goes on where it stopped"
    with pytest.raises(WorkspaceError, match=told) as refused, answering():
        httpx.get(f"http://127.0.0.1:{port}")
    assert "secret" not in str(refused.value)
    with pytest.raises(WorkspaceError, match=told), answering():
        raise RuntimeError("Cannot create flow run. Failed to reach API at http://...")  # Prefect's words at a start
    with pytest.raises(RuntimeError, match="another"), answering():
        raise RuntimeError("another")
