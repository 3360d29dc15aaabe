"""Pre-alignment of the layout encoder with an image encoder, on the training group."""

from fetalflex.artifacts import write_json, writing_folder
from fetalflex.imports import light_diffusers
from tasks.cases import read_cases
from tasks.stage import StageRun
from tasks.tracking import Tracker
from tasks.training import drive, write_curve

with light_diffusers():
    from fetalflex.model.loop import Where
    from fetalflex.model.plane_reader import fit_plane_reader, plane_figures
    from fetalflex.model.prealign import train_aligner
    from fetalflex.model.retrieval import as_json, as_metrics, retrieve


def align(run: StageRun, tracker: Tracker) -> None:
    """Train the aligner, note how well it retrieves images and regions of held-out patients, and put it in place."""
    params = run.params
    cases = read_cases(run.root, params)
    where = Where(run.work / "state", params.compute.train_threads, params.compute.device)
    steps = train_aligner(cases.of_group("train"), params.prealign, params.train.patch, params.data.seed, where)
    curve = run.work / "curve.jsonl"
    aligner = drive(steps, params.prealign.steps, "prealign", curve, tracker).to("cpu")
    # Of the judge's patients: those of test are for the last measurement alone.
    found = retrieve(aligner, cases.of_group("judge"), params.data.seed)
    tracker.metrics({f"retrieval/{k}": v for k, v in as_metrics(found).items()})
    reader = fit_plane_reader(aligner, cases.of_group("train"), cases.of_group("judge"))
    if reader is not None:
        tracker.metrics({f"planes/{k}": v for k, v in plane_figures(reader, cases.of_group("judge")).items()})
    whole = run.work / "whole"
    with writing_folder(whole) as partial:
        aligner.save(partial)
        if reader is not None:
            reader.save_head(partial)
        write_curve(curve, partial / "curve.json")
        write_json(partial / "retrieval.json", as_json(found))
    run.publish({"models/aligner": whole})
