"""Stage `masks`: groups of patients, the segmenters guide and judge, structures of every case."""

from prefect import flow

from tasks.chunks import map_chunks, task_runner
from tasks.masks import ROLES, MaskWork
from tasks.stage import open_stage, run_stage


@flow(name="masks", persist_result=False)
def masks() -> None:
    """Train both segmenters side by side, then predict shard by shard."""
    with open_stage("masks") as run:
        work = MaskWork(run)
        map_chunks(run, "segmenters", ROLES, work.train)
        map_chunks(run, "cases", work.shards, work.predict)
        work.publish()


if __name__ == "__main__":
    run_stage("masks", lambda compute: masks.with_options(task_runner=task_runner(compute))())
