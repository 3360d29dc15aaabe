"""Training of the generator on the training group, conditioned on the aligned layout encoder."""

from fetalflex.artifacts import tree_sha256, writing_folder
from fetalflex.imports import light_diffusers
from tasks.cases import read_cases
from tasks.stage import StageRun
from tasks.tracking import Tracker
from tasks.training import drive, write_curve

with light_diffusers():
    from fetalflex.diffusion.train import Run, train_generator
    from fetalflex.model.loop import training_precision
    from fetalflex.model.prealign import Aligner


def train_model(run: StageRun, tracker: Tracker) -> None:
    """Train the generator, put it in place and in the registry."""
    params = run.params
    cases = read_cases(run.root, params).of_group("train")
    aligner = Aligner.load(run.root / "models" / "aligner")
    where = Run(params.data.seed, run.work / "state", params.compute.train_threads, params.compute.device)
    curve = run.work / "curve.jsonl"
    generator = drive(train_generator(cases, aligner, params.train, where), params.train.steps, "train", curve, tracker)
    whole = run.work / "whole"
    with writing_folder(whole) as partial:
        generator.save(partial)
        write_curve(curve, partial / "curve.json")
    tracker.tag("train.precision", training_precision(params.train.precision, params.compute.device))
    run.publish({"models/generator": whole})
    tracker.register_generator(run.root / "models" / "generator", tree_sha256([run.root / "models" / "generator"]))
