"""Downstream: every training of the protocol, and every detector, is a chunk of its own."""

from functools import cached_property
from pathlib import Path

import numpy as np

from fetalflex.artifacts import write_json
from fetalflex.downstream.detectors.run import STYLE, Networks, run_detector
from fetalflex.downstream.protocol import TrainingSpec, detector_name, expected_seconds
from fetalflex.downstream.statistics.summary import downstream_report
from fetalflex.downstream.study import Outcome, load_outcome, run_training, save_outcome
from fetalflex.imports import light_diffusers
from fetalflex.report.downstream.page import render_downstream
from tasks.chunks import ChunkWork
from tasks.downstream import read_study
from tasks.progress import console
from tasks.stage import StageRun
from tasks.tracking import Tracker

OUTCOME = "outcome.npz"


class EvaluateWork(ChunkWork):
    """The study, its trainings and detectors by chunk name."""

    def __init__(self, run: StageRun) -> None:
        """Read all images once."""
        super().__init__(run)
        self.study = read_study(run.root, run.params)
        self.trainings: dict[str, TrainingSpec] = {spec.name: spec for spec in self.study.trainings()}
        self.detectors: dict[str, str] = {}
        if self.study.anomalies is not None:
            across = [STYLE] if len(self.study.anomalies.abnormal) else []
            asked: list[str] = [*run.params.evaluate.detectors, *across]
            self.detectors = {detector_name(name): name for name in asked}

    @property
    def names(self) -> list[str]:
        """All chunks, the detectors first: the counterfactual is the longest."""
        return [*self.detectors, *self.trainings]

    @cached_property
    def networks(self) -> Networks:
        """The generator and the guide; the judge is not for this stage."""
        with light_diffusers():
            from fetalflex.masks.segmenter import Segmenter
            from fetalflex.model.generator import Generator

            models = self.run.root / "models"
            return Networks(Generator.load(models / "generator"), Segmenter.load(models / "guide"))

    def announce(self) -> None:
        """Say how much is going to be done, and how long it should take."""
        params = self.run.params
        left = [spec for name, spec in self.trainings.items() if not self.run.chunk(name).is_dir()]
        seconds = expected_seconds(left, params.evaluate, params.data.image_size, params.compute.workers)
        done = f", {len(self.trainings) - len(left)} of them done" if len(left) < len(self.trainings) else ""
        console.print(
            f"evaluate: {len(self.trainings)} trainings{done}, {len(self.detectors)} detectors; expected: "
            f"{max(1, round(seconds / 60))} min of {params.compute.workers} free cores for the trainings",
            soft_wrap=True,
        )

    def make(self, name: str, folder: Path) -> None:
        """Run one training or one detector and keep what it says of the test images."""
        params = self.run.params
        if name in self.trainings:
            outcome = run_training(self.study, self.trainings[name], params.compute.device)
        else:
            task = self.study.anomalies
            if task is None:
                raise KeyError(name)
            kind = self.detectors[name]
            needs = kind in ("counterfactual", STYLE)
            outcome = run_detector(kind, task, params.evaluate, params.data.seed, self.networks if needs else None)
        save_outcome(folder / OUTCOME, outcome)

    def finish(self, chunks: dict[str, Path], tracker: Tracker) -> None:
        """Compare the arms; publish the report and its page."""
        outcomes = {spec: load_outcome(chunks[name] / OUTCOME) for name, spec in self.trainings.items()}
        detectors: dict[str, Outcome] = {
            kind: load_outcome(chunks[name] / OUTCOME) for name, kind in self.detectors.items()
        }
        report = downstream_report(self.study, outcomes, detectors)
        tracker.metrics(
            {
                f"{r['task']}/{r['test']}/{r['model']}/{r['arm']}/{r['metric']}".replace("+", "-"): r["value"]
                for r in report["results"]
                if r["value"] is not None and np.isfinite(r["value"])
            }
        )
        work = self.run.work
        write_json(work / "downstream.json", report)
        page = render_downstream(report, self.study, detectors, preset=self.run.params.preset)
        (work / "downstream.html").write_text(page, encoding="utf-8")
        self.run.publish({f"reports/{name}": work / name for name in ("downstream.json", "downstream.html")})
