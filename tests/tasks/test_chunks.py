"""Fan-out over chunks on threads, with a real Prefect server; and what another process makes of a stage's work."""

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow

from fetalflex.errors import ParameterError, SourceError, StageError
from fetalflex.params import Compute, preset_text
from tasks import chunks
from tasks.chunks import ChunkWork, map_chunks, task_runner
from tasks.server import Server, prefect_settings
from tasks.stage import StageRun
from tasks.workspace import load_params


@pytest.fixture(scope="module")
def server(standing: Server) -> Iterator[Server]:
    with prefect_settings(standing):
        yield standing


@pytest.fixture
def run(tmp_path: Path) -> StageRun:
    (tmp_path / "params.yaml").write_text(preset_text("tiny"))
    return StageRun("gate", tmp_path, tmp_path / "work", load_params(tmp_path), "key", (), ())


class Toy(ChunkWork):
    """Writes its chunk's name; counts how often it was built."""

    built = 0

    def __init__(self, run: StageRun) -> None:
        super().__init__(run)
        type(self).built += 1
        self.made: list[str] = []
        self._lock = threading.Lock()

    def make(self, name: str, folder: Path) -> None:
        with self._lock:
            self.made.append(name)
        if name == "bad":
            raise SourceError("chunk bad: no such thing")
        (folder / "x").write_text(name)


def _map(work: Toy, names: list[str]) -> dict[str, Path]:
    @flow(task_runner=task_runner(Compute(workers=2)), persist_result=False)
    def toy() -> None:
        map_chunks(work.run, "toys", names, work.make)

    toy()
    return {name: work.run.chunk(name) for name in names}


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_every_chunk_is_made_once_and_finished_ones_are_left(run: StageRun) -> None:
    work = Toy(run)
    _map(work, ["a", "b"])
    found = _map(work, ["a", "b", "c"])
    assert {name: (folder / "x").read_text() for name, folder in found.items()} == {"a": "a", "b": "b", "c": "c"}
    assert sorted(work.made) == ["a", "b", "c"]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_the_error_of_a_chunk_comes_through_and_the_others_stay(run: StageRun) -> None:
    with pytest.raises(SourceError, match="no such thing"):
        _map(Toy(run), ["a", "bad"])
    assert not run.chunk("bad").exists()
    assert _map(Toy(run), ["a"])["a"].is_dir()


def test_another_process_builds_the_work_once_from_the_run(run: StageRun) -> None:
    first = Toy(run)
    first.made.append("something large")
    sent = pickle.dumps(first.make)
    assert b"something large" not in sent
    before = Toy.built
    one, two = (pickle.loads(sent) for _ in range(2))  # what Dask does between processes of ours
    assert Toy.built == before + 1
    assert one.__self__ is two.__self__
    assert one.__self__.made == []


def test_other_software_on_a_worker_is_refused(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(Toy(run).make)
    other = {"code": "x", "libraries": chunks._software("gate")["libraries"]}
    monkeypatch.setattr(chunks, "_own_software", lambda stage: other)
    with pytest.raises(StageError, match="runs another fetalflex's code"):
        pickle.loads(sent)


def test_a_runner_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prefect_dask.task_runners", None)
    with pytest.raises(ParameterError, match=r"pip install 'fetalflex\[dask\]'"):
        task_runner(Compute(runner="dask"))
