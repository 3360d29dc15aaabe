"""Downstream: every training of the comparison is a chunk of its own."""

from pathlib import Path

import numpy as np

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.artifacts import decode_png, read_json, write_json
from fetalflex.dataset import Cases
from fetalflex.downstream.comparison import summarise
from fetalflex.downstream.protocol import Labelled, TrainingResult, TrainingSpec, plane_task, specs, train_and_test
from fetalflex.quality.summary import plain
from tasks.cases import patient_names, read_cases, read_synthetic
from tasks.chunks import ChunkWork
from tasks.stage import StageRun
from tasks.tracking import Tracker


class EvaluateWork(ChunkWork):
    """The task (which planes can be tested) and its trainings by name."""

    def __init__(self, run: StageRun) -> None:
        """Read real and synthetic images; only normal synthetic ones teach planes."""
        super().__init__(run)
        cases = read_cases(run.root, run.params)
        made = read_synthetic(run.root)
        made = made.filter(made["kind"] == "normal")
        synthetic = Labelled(
            np.stack([decode_png(p["bytes"]) for p in made["image"]]),
            made["plane"].to_numpy().astype(np.str_),
            made["source_case"].to_numpy().astype(np.str_),
        )
        self.task = plane_task(_labelled(cases.of_group("train")), synthetic, _labelled(cases.of_group("test")))
        self.specs: dict[str, TrainingSpec] = {
            f"{s.model}-{s.arm.replace('+', '-')}-{s.repeat}": s for s in specs(run.params.evaluate)
        }

    def make(self, name: str, folder: Path) -> None:
        """Run one training and keep its predictions."""
        params = self.run.params
        result = train_and_test(self.specs[name], self.task, params.evaluate, params.data.seed)
        write_json(folder / "result.json", {"predictions": result.predictions, "losses": result.losses})

    def finish(self, chunks: dict[str, Path], tracker: Tracker) -> None:
        """Compare the arms and publish the report."""
        results = []
        for name, chunk in chunks.items():
            kept = read_json(chunk / "result.json")
            results.append(TrainingResult(self.specs[name], tuple(kept["predictions"]), tuple(kept["losses"])))
        params = self.run.params
        report = summarise(results, self.task, bootstrap=params.evaluate.bootstrap, seed=params.data.seed)
        tracker.metrics(
            {f"{r['model']}/{r['arm']}/{r['metric']}".replace("+", "-"): r["value"] for r in report["results"]}
        )
        write_json(self.run.work / "downstream.json", plain(report))
        self.run.publish({"reports/downstream.json": self.run.work / "downstream.json"})


def _labelled(cases: Cases) -> Labelled:
    planes = np.array([PLANE_NAMES[int(p)] for p in cases.planes], np.str_)
    return Labelled(cases.images, planes, patient_names(cases))
