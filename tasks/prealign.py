"""Pre-alignment of the layout encoder."""

from fetalflex.model.prealign import train_aligner
from tasks.cases import read_cases
from tasks.stage import StageRun, writing_folder
from tasks.tracking import Tracker
from tasks.training import drive, write_curve


def align(run: StageRun, tracker: Tracker) -> None:
    """Train the aligner on the training group and put it in place."""
    from fetalflex.diffusion.train import Run

    params = run.params
    cases = read_cases(run.root, params).of_group("train")
    where = Run(params.data.seed, run.work / "state", params.compute.train_threads, params.compute.device)
    curve = run.work / "curve.jsonl"
    last = drive(train_aligner(cases, params.prealign, where), params.prealign.steps, "prealign", curve, tracker)
    whole = run.work / "whole"
    with writing_folder(whole) as partial:
        last.trained.save(partial)
        write_curve(curve, partial / "curve.json")
    run.publish({"models/aligner": whole})
