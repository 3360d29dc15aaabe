"""Stage `train`: training of the denoiser on the aligned layout encoder."""

from prefect import flow

from tasks.stage import open_stage, run_stage
from tasks.tracking import stage_run
from tasks.train import train_model


@flow(name="train", persist_result=False)
def train() -> None:
    """Train, going on from the last checkpoint, and put the model in place."""
    with open_stage("train") as run, stage_run(run, run.params.train.model_dump()) as tracker:
        train_model(run, tracker)


if __name__ == "__main__":
    run_stage("train", lambda _: train())
