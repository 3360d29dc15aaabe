"""Pre-alignment of the layout encoder with an image encoder, on the training group."""

from fetalflex.imports import light_diffusers
from tasks.cases import read_cases
from tasks.stage import StageRun, writing_folder
from tasks.tracking import Tracker
from tasks.training import drive, write_curve

with light_diffusers():
    from fetalflex.model.prealign import retrieval, train_aligner


def align(run: StageRun, tracker: Tracker) -> None:
    """Train the aligner, note how well it retrieves held-out regions, and put it in place."""
    params = run.params
    cases = read_cases(run.root, params)
    steps = train_aligner(
        cases.of_group("train"), params.prealign, params.train.patch, params.data.seed, run.work / "state",
        params.compute.train_threads,
    )  # fmt: skip
    curve = run.work / "curve.jsonl"
    aligner = drive(steps, params.prealign.steps, "prealign", curve, tracker)
    tracker.metrics({f"retrieval/{k}": v for k, v in retrieval(aligner, cases.of_group("judge")).items()})
    whole = run.work / "whole"
    with writing_folder(whole) as partial:
        aligner.save(partial)
        write_curve(curve, partial / "curve.json")
    run.publish({"models/aligner": whole})
