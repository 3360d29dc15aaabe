"""The runner `dask`: the same bytes as on threads, on processes of this machine and on a standing cluster."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tasks.server import free_port
from tests.flows.chain import differing, dvc, environment, remake, wait_for
from tests.flows.conftest import Workspace

pytest.importorskip("prefect_dask", reason="the extra dask is not installed: pip install 'fetalflex[dask]'")
pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]


@contextmanager
def _standing_cluster(folder: Path) -> Iterator[str]:
    """A scheduler and a worker, as somebody else would have started them."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    common = {"cwd": folder, "env": environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*_command("scheduler"), "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"], **common
    )
    worker = subprocess.Popen([*_command("worker"), address, "--nthreads", "2", "--no-dashboard"], **common)
    try:
        assert wait_for(lambda: _answers(port), 60)
        yield address
    finally:
        worker.terminate()
        scheduler.terminate()
        worker.wait(20)
        scheduler.wait(20)


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", f"distributed.cli.dask_{name}"]


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def _dask(root: Path, address: str | None) -> Iterator[None]:
    path = root / "params.yaml"
    former = path.read_text()
    values = yaml.safe_load(former)
    values["compute"] |= {"runner": "dask", "dask_address": address}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    try:
        yield
    finally:
        path.write_text(former)


def test_processes_of_this_machine_give_the_same_bytes(workspace: Workspace, served: dict[str, str]) -> None:
    with _dask(workspace.root, None):
        remake(workspace.root, "sample", environment(**served))
    assert differing(workspace.root, "sample") == []


def test_a_standing_cluster_gives_the_same_bytes(workspace: Workspace, served: dict[str, str], tmp_path: Path) -> None:
    with (
        _standing_cluster(tmp_path) as address,
        _dask(workspace.root, address),
    ):
        remake(workspace.root, "masks", environment(**served))
    assert differing(workspace.root, "masks") == []


def test_a_cluster_that_does_not_answer_is_one_line(workspace: Workspace, served: dict[str, str]) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with _dask(workspace.root, address):
        said = remake(workspace.root, "evaluate", environment(**served), code=1)
    assert said.startswith(f"evaluate: params.yaml: compute.dask_address: no Dask scheduler answers at {address}")
    assert len(said.splitlines()) == 1
    dvc(workspace.root, "checkout", "evaluate")
