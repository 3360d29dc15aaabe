"""Chunks on Dask: the same bytes whatever the number of workers; a worker that is killed costs its chunk, once."""

import hashlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from fetalflex.artifacts import tree_sha256
from fetalflex.params import read_params
from tasks.chunks import map_chunks, task_runner
from tasks.cluster import _local_cluster
from tasks.server import Server, prefect_settings
from tasks.stage import StageRun
from tasks.workspace import create_workspace
from tests.flows.chain import wait_for

pytest.importorskip("prefect_dask", reason="the extra dask is not installed: pip install 'fetalflex[dask]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Dask's own, of workers that are killed on purpose
]
NAMES = [f"{n:02d}" for n in range(8)]


@pytest.fixture(scope="module")
def root(standing: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("cluster") / "ws"
    create_workspace(place, "tiny")
    with prefect_settings(standing):
        yield place


@pytest.fixture(scope="module")
def cluster(root: Path) -> Iterator[Any]:
    """A cluster of one worker, which grows: each new process takes seconds to start."""
    from distributed import LocalCluster

    options = _local_cluster(1, root) | {"silence_logs": logging.CRITICAL}
    with LocalCluster(**options) as running:
        yield running


def _run(root: Path, workers: int, address: str | None = None, deadly: str = "") -> tuple[str, list[str]]:
    """Make all chunks on a cluster, one of its own where no address is given; return their hash, and the journal."""
    params = read_params(root / "params.yaml")
    compute = params.compute.model_copy(update={"runner": "dask", "workers": workers, "dask_address": address})
    run = StageRun("toy", root, root / ".work" / f"toy-{workers}{deadly}", params, "key", (), ())
    run.work.mkdir(parents=True)
    journal = run.work / "journal"

    def make(name: str, folder: Path) -> None:
        with journal.open("a") as out:
            out.write(f"{name}\n")
        if name == deadly and not (run.work / "killed").exists():
            (run.work / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "bytes").write_bytes(hashlib.sha256(name.encode()).digest() * 100)

    @flow(name="toy", persist_result=False)
    def toy() -> None:
        map_chunks(run, "toy", NAMES, make)

    toy.with_options(task_runner=task_runner(compute))()
    return tree_sha256(sorted((run.work / "chunks").iterdir())), sorted(journal.read_text().split())


def test_chunks_are_the_same_bytes_with_one_two_and_four_workers(
    root: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    found = []
    for workers in (1, 2, 4):
        cluster.scale(workers)
        assert wait_for(lambda count=workers: len(cluster.scheduler.workers) == count)  # type: ignore[misc]
        found.append(_run(root, workers, cluster.scheduler_address))
    assert {digest for digest, _ in found} == {found[0][0]}
    assert all(journal == NAMES for _, journal in found), "every chunk is made once"


def test_a_killed_worker_costs_its_chunk_which_is_made_again_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    _, journal = _run(root, 2, deadly="03")
    assert journal == sorted([*NAMES, "03"]), "the chunk of the killed worker twice at work, all others once"
    chunks = sorted((root / ".work" / "toy-203" / "chunks").iterdir())
    assert [c.name for c in chunks] == NAMES, "no half chunk is left"
