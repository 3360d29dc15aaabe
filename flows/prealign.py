"""Stage `prealign`: pre-alignment of the layout encoder with the image encoder."""

from prefect import flow

from tasks.prealign import align
from tasks.stage import open_stage, run_stage
from tasks.tracking import stage_run


@flow(name="prealign", persist_result=False)
def prealign() -> None:
    """Train, going on from the last checkpoint, and put the model in place."""
    with open_stage("prealign") as run, stage_run(run, run.params.prealign.model_dump()) as tracker:
        align(run, tracker)


if __name__ == "__main__":
    run_stage("prealign", lambda _: prealign())
