"""Fan-out of a stage over chunks of cases: each is a Prefect task run whose result is a finished folder.

Not single cases: thousands of task runs hurt a self-hosted server. A chunk that an earlier, cut-off run finished is
not done again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from fetalflex.errors import ParameterError
from fetalflex.params import Compute
from tasks.progress import bar
from tasks.stage import StageRun


def task_runner(compute: Compute) -> TaskRunner[Any]:
    """Return the runner that params.yaml asks for. Raises: ParameterError where its package is missing."""
    if compute.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=compute.workers)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise ParameterError(
            "params.yaml: compute.runner: dask needs the extra: pip install 'fetalflex[dask]'"
        ) from error
    runner: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs={"n_workers": compute.workers, "threads_per_worker": 1})
    return runner


def map_chunks(
    run: StageRun, label: str, names: Sequence[str], make: Callable[[str, Path], None], workers: int | None = None
) -> dict[str, Path]:
    """Make every chunk that is not there yet, `make(name, folder)` each; return all folders by name.

    Called inside a stage's flow; `workers` bounds how many are at work at once (None: the runner's own number).
    """

    @task(name=label, task_run_name=f"{label} {{name}}", cache_policy=NO_CACHE, persist_result=False)
    def work(name: str) -> None:
        run.once(name, lambda folder: make(name, folder))

    missing = [name for name in names if not run.chunk(name).is_dir()]
    with bar(f"{run.name}: {label}", len(names)) as shown:
        shown.advance(len(names) - len(missing))
        size = workers or len(missing) or 1
        for start in range(0, len(missing), size):
            for future in as_completed(list(work.map(missing[start : start + size]))):
                future.result()
                shown.advance()
    return {name: run.chunk(name) for name in names}
