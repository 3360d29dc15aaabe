"""The protocol as a list: every training that the parameters ask for, named, counted and timed before the first starts.

All arms of one (task, model, repeat) start from the same weights and take the same number of steps of the same size;
only the images differ. One training is one chunk, and depends on nothing but its own spec, the study and the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from time import process_time

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from fetalflex.downstream.models.classifier import build_classifier
from fetalflex.params_evaluate import Arm, Evaluate, ModelName, TaskName

REAL: Arm = "real"
MIXED: Arm = "real+synthetic"
SYNTHETIC: Arm = "synthetic"
CLASSIC: Arm = "real+augmentation"
UNSEEN: Arm = "real+unseen"
NOISE: Arm = "real+noise"
# A detector learns normal images alone: there is no synthetic arm of it, and none of the controls means anything.
_PLANE_ONLY = (UNSEEN, NOISE)


@dataclass(frozen=True, order=True)
class TrainingSpec:
    """One training.

    `ratio`: synthetic images per real one; `shots`: share of the real training patients; `without`: the center that is
    left out of training and alone tested on, empty for none; `repeat` picks the seed.
    """

    task: TaskName
    model: ModelName
    arm: Arm
    repeat: int
    ratio: float = 1.0
    shots: float = 1.0
    without: str = ""

    @property
    def name(self) -> str:
        """The chunk's name."""
        parts = [self.task, self.model, self.arm.replace("+", "-"), f"r{self.ratio:g}", f"s{self.shots:g}"]
        return "_".join([*parts, *([f"without-{self.without}"] if self.without else []), str(self.repeat)])


def detector_name(detector: str) -> str:
    """Return the chunk's name of a detector."""
    return f"detector_{detector}"


def plan(params: Evaluate, centers: Sequence[str] = ()) -> tuple[TrainingSpec, ...]:
    """Return every training. `centers`: those that can be left out, each tested on its own patients."""
    found: dict[TrainingSpec, None] = {}  # in order, each once
    for task, model in product(params.tasks, params.models):
        arms = [a for a in params.arms if task == "plane" or a not in _PLANE_ONLY]
        for arm, repeat in product(arms, range(params.seeds)):
            found[TrainingSpec(task, model, arm, repeat, params.ratio, params.shots)] = None
        for ratio, repeat in product(params.more_ratios, range(params.seeds)):
            found[TrainingSpec(task, model, MIXED, repeat, ratio, params.shots)] = None
        if task == "plane":
            shares = [s for s in params.few_shot if s != params.shots]
            for shots, arm, repeat in product(shares, (REAL, MIXED), range(params.few_shot_seeds)):
                found[TrainingSpec(task, model, arm, repeat, params.ratio, shots)] = None
            for center, arm, repeat in product(centers, (REAL, MIXED), range(params.leave_center_seeds)):
                found[TrainingSpec(task, model, arm, repeat, params.ratio, params.shots, center)] = None
    return tuple(found)


def expected_seconds(trainings: Sequence[TrainingSpec], params: Evaluate, side: int, workers: int) -> float:
    """Return how long the trainings will take on so many workers: one step of each model is measured here and now."""
    cost: dict[str, float] = {}
    x = torch.from_numpy(np.zeros((params.batch_size, 1, side, side), np.float32))
    y = torch.zeros(params.batch_size, dtype=torch.int64)
    for model in params.models:
        network = build_classifier(model, params.size, 2, side, 0)
        for _ in range(2):  # the first pays for what is made once
            start = process_time()
            cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
            cost[model] = process_time() - start
    return sum(cost[t.model] for t in trainings) * params.steps / workers
