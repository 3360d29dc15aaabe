"""Stage `sample`: synthetic images, normal, abnormal and in counterfactual pairs."""

from prefect import flow

from tasks.chunks import map_chunks, task_runner
from tasks.sample import SampleWork
from tasks.stage import open_stage, run_stage


@flow(name="sample", persist_result=False)
def sample() -> None:
    """Sample shard by shard."""
    with open_stage("sample") as run:
        work = SampleWork(run)
        work.publish(map_chunks(run, "images", work.shards, work.make))


if __name__ == "__main__":
    run_stage("sample", lambda compute: sample.with_options(task_runner=task_runner(compute))())
