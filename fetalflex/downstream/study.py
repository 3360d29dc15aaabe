"""A study: everything that the trainings of one evaluation read, in one object that also fits in one file.

Packed (`save`, `load`) it goes to a machine that has torch, transformers, MONAI and numpy alone; results come back as
one small file per training. Inside the chain the stage's chunks run the very same functions.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fetalflex.artifacts import atomic
from fetalflex.downstream.data.anomalies import AnomalyTask, Pairs
from fetalflex.downstream.data.arms import anomaly_pool, leavable_centers, plane_pool, plane_test, pretext_pool
from fetalflex.downstream.data.labelled import Images, Labelled
from fetalflex.downstream.data.planes import PlaneTask
from fetalflex.downstream.detectors.neighbours import nearest_distances
from fetalflex.downstream.protocol import REAL, SYNTHETIC, TrainingSpec, plan
from fetalflex.downstream.training.loop import Learner, embeddings, probabilities, train
from fetalflex.errors import ArtifactError
from fetalflex.params_evaluate import Evaluate

Outcome = dict[str, npt.NDArray[Any]]
SETS = ("calibration", "test", "abnormal", "pairs_normal", "pairs_abnormal")


@dataclass(frozen=True, eq=False)
class Study:
    """The tasks that are asked (None: not), the parameters and the seed."""

    params: Evaluate
    seed: int
    planes: PlaneTask | None
    anomalies: AnomalyTask | None

    def trainings(self) -> tuple[TrainingSpec, ...]:
        """Return every training of the study; an arm of synthetic images alone needs some of every class."""
        every = plan(self.params, leavable_centers(self.planes) if self.planes is not None else ())
        lacking = bool(self.planes_without_synthetic())
        return tuple(s for s in every if not (lacking and s.task == "plane" and s.arm == SYNTHETIC))

    def planes_without_synthetic(self) -> list[str]:
        """Return the classes of the plane task that no synthetic image shows."""
        task = self.planes
        return [] if task is None else [name for name in task.classes if name not in set(task.synthetic.labels)]

    def save(self, path: Path) -> None:
        """Pack into one compressed npz without pickled objects, whole or not at all."""
        arrays: dict[str, Any] = {"about": json.dumps({"params": self.params.model_dump(), "seed": self.seed})}
        for prefix, task in (("planes", self.planes), ("anomalies", self.anomalies)):
            if task is not None:
                arrays |= dict(_flat(task, prefix))
        with atomic(path) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    @staticmethod
    def load(path: Path) -> "Study":
        """Read a packed study. Raises: ArtifactError where the file is missing or none of ours."""
        try:
            with np.load(path, allow_pickle=False) as packed:
                arrays = dict(packed)
            about = json.loads(str(arrays["about"]))
            params = Evaluate.model_validate_json(json.dumps(about["params"]))
            planes = _planes(arrays) if "planes/classes" in arrays else None
            anomalies = _anomalies(arrays) if "anomalies/planes" in arrays else None
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ArtifactError(f"{path}: no packed study ({error}); pack it again") from error
        return Study(params, int(about["seed"]), planes, anomalies)


def run_training(study: Study, spec: TrainingSpec, device: str = "cpu") -> Outcome:
    """Run one training to its end.

    Plane: `probabilities` [N, classes] of the test images at `positions` [N]. Anomaly: an anomaly score per image of
    each of `SETS`, probabilities of the class abnormal, or in the arm `real` distances. Both: `losses` [steps].
    """
    learner = Learner(spec.model, spec.repeat, study.seed, device)
    if spec.task == "plane":
        task = _asked(study.planes, spec)
        network, losses = train(learner, plane_pool(spec, task, study.seed), study.params)
        positions = plane_test(spec, task)
        found = probabilities(network, task.test.images[positions])
        return {"probabilities": found, "positions": positions, "losses": np.array(losses, np.float32)}
    anomaly = _asked(study.anomalies, spec)
    one_class = spec.arm == REAL
    pool = pretext_pool(anomaly) if one_class else anomaly_pool(spec, anomaly, study.seed)
    network, losses = train(learner, pool, study.params)
    scores: Outcome = {"losses": np.array(losses, np.float32)}
    known = embeddings(network, anomaly.real.images) if one_class else None
    for name, images in image_sets(anomaly).items():
        if known is not None:
            scores[name] = nearest_distances(embeddings(network, images), known)
        else:
            scores[name] = probabilities(network, images)[:, 1]
    return scores


def image_sets(task: AnomalyTask) -> dict[str, Images]:
    """Return the images of each of `SETS`."""
    parts = (task.calibration.images, task.test.images, task.abnormal.images, task.pairs.normal, task.pairs.abnormal)
    return dict(zip(SETS, parts, strict=True))


def save_outcome(path: Path, outcome: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write one training's outcome, whole or not at all."""
    with atomic(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **cast(dict[str, Any], dict(outcome)))


def load_outcome(path: Path) -> Outcome:
    """Read one training's outcome. Raises: ArtifactError."""
    try:
        with np.load(path, allow_pickle=False) as packed:
            return dict(packed)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path}: no outcome of a training ({error}); run evaluate again") from error


def _asked(task: Any, spec: TrainingSpec) -> Any:
    if task is None:
        raise ArtifactError(f"evaluate: the training {spec.name} belongs to a task that this study does not hold")
    return task


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for f in fields(value):
        item, name = getattr(value, f.name), f"{prefix}/{f.name}"
        if isinstance(item, Labelled | Pairs):
            yield from _flat(item, name)
        elif f.name == "left_out":
            yield name, json.dumps(item)
        else:
            yield name, np.asarray(item)


def _labelled(arrays: Mapping[str, Any], prefix: str) -> Labelled:
    return Labelled(*(arrays[f"{prefix}/{f.name}"] for f in fields(Labelled)))


def _planes(arrays: Mapping[str, Any]) -> PlaneTask:
    parts: Any = {name: _labelled(arrays, f"planes/{name}") for name in ("real", "synthetic", "test", "unseen")}
    left_out = tuple(json.loads(str(arrays["planes/left_out"])))
    return PlaneTask(tuple(arrays["planes/classes"].tolist()), left_out=left_out, **parts)


def _anomalies(arrays: Mapping[str, Any]) -> AnomalyTask:
    pairs = Pairs(*(arrays[f"anomalies/pairs/{f.name}"] for f in fields(Pairs)))
    names = [f.name for f in fields(AnomalyTask) if f.name not in ("planes", "pairs", "abnormal_planes")]
    parts: Any = {name: _labelled(arrays, f"anomalies/{name}") for name in names}
    return AnomalyTask(planes=tuple(arrays["anomalies/planes"].tolist()), pairs=pairs,
        abnormal_planes=arrays["anomalies/abnormal_planes"], **parts)  # fmt: skip
