"""Fan-out of a stage over chunks of cases: each is a Prefect task run whose result is a finished folder.

Not single cases: thousands of task runs hurt a self-hosted server. A chunk that an earlier, cut-off run finished is
not done again. Chunks run on threads of the stage's process or, with the extra `dask`, on the workers of a cluster.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Self

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from fetalflex.errors import StageError
from fetalflex.params import Compute
from tasks import fingerprints
from tasks.process import fix_threads
from tasks.progress import bar
from tasks.stage import StageRun


class ChunkWork:
    """What the chunks of a stage share, a function of the run alone.

    In another process it is built again from the run instead of being sent: inputs are read there, and neither arrays
    nor the pseudonym key travel. Once per process, which also must run the same software.
    """

    run: StageRun

    def __init__(self, run: StageRun) -> None:
        self.run = run

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        return _build_again, (type(self), self.run, _software(self.run.name.partition("@")[0]))


_built: dict[tuple[type, Path], Any] = {}
_building = Lock()
# A worker keeps the code that it once imported: what it runs is told when it is first asked, and not read again.
_own_software = cache(lambda stage: _software(stage))


def _software(stage: str) -> dict[str, Any]:
    return {"code": fingerprints.code_fingerprint(stage), "libraries": fingerprints.library_versions()}


def _build_again(kind: type[Any], run: StageRun, software: dict[str, Any]) -> Any:
    """Return the shared work of a stage in this process. Raises: StageError where the software is not the stage's."""
    own = _own_software(run.name.partition("@")[0])
    if own != software:
        differing = [n for n, v in software["libraries"].items() if own["libraries"].get(n) != v] or [
            "fetalflex's code"
        ]
        raise StageError(
            f"a Dask worker runs another {', '.join(differing)} than this stage, so results would differ: give the "
            "workers the same environment and restart them"
        )
    with _building:
        if (kind, run.work) not in _built:
            _built.clear()
            _built[kind, run.work] = kind(run)
        return _built[kind, run.work]


def task_runner(compute: Compute) -> TaskRunner[Any]:
    """Return the runner that params.yaml asks for. Raises: ParameterError, WorkspaceError for one that cannot work."""
    if compute.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=compute.workers)
    from tasks.cluster import dask_runner

    return dask_runner(compute)


def map_chunks(
    run: StageRun, label: str, names: Sequence[str], make: Callable[[str, Path], None], workers: int | None = None
) -> dict[str, Path]:
    """Make every chunk that is not there yet, `make(name, folder)` each; return all folders by name.

    Called inside a stage's flow; `workers` bounds how many are at work at once (None: the runner's own number).
    Raises: StageError where a chunk's process was lost, or wrote elsewhere.
    """

    @task(name=label, task_run_name=f"{label} {{name}}", cache_policy=NO_CACHE, persist_result=False)
    def work(name: str) -> None:
        fix_threads(run.params.compute.threads)
        run.once(name, lambda folder: make(name, folder))

    missing = [name for name in names if not run.chunk(name).is_dir()]
    with bar(f"{run.name}: {label}", len(names)) as shown:
        shown.advance(len(names) - len(missing))
        size = workers or len(missing) or 1
        for start in range(0, len(missing), size):
            for future in as_completed(list(work.map(missing[start : start + size]))):
                _result(future)
                shown.advance()
    lost = [name for name in names if not run.chunk(name).is_dir()]
    if lost:
        raise StageError(
            f"{label} {lost[0]} was made on a disk that is not this workspace's: Dask workers must share it"
        )
    return {name: run.chunk(name) for name in names}


def _result(future: Any) -> None:
    """Wait for a chunk. Raises: what the chunk raised; StageError where the cluster lost it."""
    try:
        future.result()
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "distributed":
            raise
        raise StageError(
            f"the Dask cluster lost a chunk ({' '.join(str(error).split())[:200]}): see its workers' logs; "
            "'fetalflex run' goes on from the finished chunks"
        ) from error
