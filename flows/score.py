"""Stage `score`: how good are the synthetic images?"""

from prefect import flow

from tasks.chunks import map_chunks, task_runner
from tasks.score import ScoreWork
from tasks.stage import open_stage, run_stage
from tasks.tracking import stage_run


@flow(name="score", persist_result=False)
def score() -> None:
    """Compute features part by part while copies are searched for, then every score."""
    with open_stage("score") as run, stage_run(run, run.params.score.model_dump()) as tracker:
        work = ScoreWork(run)
        with work.searching() as searched:
            chunks = map_chunks(run, "features", list(work.parts), work.features)
            work.finish(chunks, searched, tracker)


if __name__ == "__main__":
    run_stage("score", lambda compute: score.with_options(task_runner=task_runner(compute))())
