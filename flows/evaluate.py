"""Stage `evaluate`: do the synthetic images help a classifier?"""

from prefect import flow

from tasks.chunks import map_chunks, task_runner
from tasks.evaluate import EvaluateWork
from tasks.stage import open_stage, run_stage
from tasks.tracking import stage_run


@flow(name="evaluate", persist_result=False)
def evaluate() -> None:
    """Run every training and detector of the protocol, then compare."""
    with open_stage("evaluate") as run, stage_run(run, run.params.evaluate.model_dump()) as tracker:
        work = EvaluateWork(run)
        work.announce()
        work.finish(map_chunks(run, "trainings", work.names, work.make), tracker)


if __name__ == "__main__":
    run_stage("evaluate", lambda compute: evaluate.with_options(task_runner=task_runner(compute))())
