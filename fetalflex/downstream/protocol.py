"""Do synthetic images help a classifier? Planes learnt from `real` and from `real+synthetic`, tested on real patients.

Both arms take the same number of steps, the same starting weights and the same class balance; only the content of
the batches differs. Test patients are in neither arm. One training is one chunk (`TrainingSpec`); `summarise` joins
them.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.downstream.classifiers import Name, build_classifier
from fetalflex.errors import TooFewCasesError
from fetalflex.params import Evaluate
from fetalflex.rng import derive_seed, generator

Arm = Literal["real", "real+synthetic"]
ARMS: tuple[Arm, ...] = ("real", "real+synthetic")
MIN_TEST_IMAGES, MIN_TEST_PATIENTS, MIN_TRAIN_IMAGES = 5, 3, 5
# A plane "not stated" contains the stated ones: as separate classes they would tell centers apart, not planes.
UNSTATED = {"brain": ("transventricular", "transthalamic", "transcerebellar"), "thorax": ("four-chamber",)}


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images uint8 [N, S, S], plane names str [N] and patients str [N]."""

    images: npt.NDArray[np.uint8]
    planes: npt.NDArray[np.str_]
    patients: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)

    def of_planes(self, planes: npt.NDArray[np.str_], kept: Sequence[str]) -> "Labelled":
        """Return the images whose (renamed) plane is kept."""
        index = np.isin(planes, list(kept))
        return Labelled(self.images[index], planes[index], self.patients[index])


@dataclass(frozen=True, eq=False)
class PlaneTask:
    """The images of the planes that can be tested, and what was left out: [{plane, test, patients, train}]."""

    classes: tuple[str, ...]
    real: Labelled
    synthetic: Labelled
    test: Labelled
    left_out: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class TrainingSpec:
    """One training. `repeat`: 0 .. evaluate.seeds - 1; arms of equal repeat start from equal weights."""

    model: Name
    arm: Arm
    repeat: int


@dataclass(frozen=True)
class StepLog:
    """One training step."""

    step: int
    loss: float


@dataclass(frozen=True)
class TrainingResult:
    """What one training predicts for the test images (class numbers, in the task's order), and its losses."""

    spec: TrainingSpec
    predictions: tuple[int, ...]
    losses: tuple[float, ...]


def plane_task(real: Labelled, synthetic: Labelled, test: Labelled) -> PlaneTask:
    """Choose the planes with enough images and patients; unite stated planes with their unstated parent.

    Raises: TooFewCasesError where fewer than two planes remain, or a test patient is also in training.
    """
    shared = np.intersect1d(real.patients, test.patients)
    if len(shared):
        raise TooFewCasesError(f"evaluate: {len(shared)} test patients are also in training; expected none")
    seen = set(real.planes) | set(test.planes)
    parent = {child: name for name, children in UNSTATED.items() if name in seen for child in children}
    named = [np.array([parent.get(str(p), str(p)) for p in part.planes], np.str_) for part in (real, synthetic, test)]
    kept, left_out = [], []
    for plane in PLANE_NAMES:
        here, train = named[2] == plane, int((named[0] == plane).sum())
        images, patients = int(here.sum()), len(np.unique(test.patients[here]))
        enough = images >= MIN_TEST_IMAGES and patients >= MIN_TEST_PATIENTS and train >= MIN_TRAIN_IMAGES
        if enough and plane != "unknown":
            kept.append(plane)
        elif images or train:
            left_out.append({"plane": plane, "test": images, "patients": patients, "train": train})
    if len(kept) < 2:
        raise TooFewCasesError(
            f"evaluate: {len(kept)} planes have {MIN_TEST_IMAGES} test images of {MIN_TEST_PATIENTS} patients and "
            f"{MIN_TRAIN_IMAGES} training images; expected at least 2. Add cases or raise data.test_fraction"
        )
    parts = [part.of_planes(names, kept) for part, names in zip((real, synthetic, test), named, strict=True)]
    return PlaneTask(tuple(kept), parts[0], parts[1], parts[2], tuple(left_out))


def specs(params: Evaluate) -> tuple[TrainingSpec, ...]:
    """Return every training of the comparison: models x arms x repeats."""
    return tuple(TrainingSpec(m, arm, i) for m in params.models for arm in ARMS for i in range(params.seeds))


def train_and_test(spec: TrainingSpec, task: PlaneTask, params: Evaluate, seed: int) -> TrainingResult:
    """Run one training to its end and return its result."""
    steps = train_steps(spec, task, params, seed)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: TrainingResult = end.value
            return result


def train_steps(
    spec: TrainingSpec, task: PlaneTask, params: Evaluate, seed: int
) -> Generator[StepLog, None, TrainingResult]:
    """Train one classifier, yielding each step; the generator's value is the result on the test images.

    Batches draw a class first and then one of its images, so that both arms see the planes equally often.
    """
    images, labels = _pool(spec, task, params, seed)
    network = build_classifier(spec.model, len(task.classes), derive_seed(seed, spec.model, spec.repeat))
    optimizer = torch.optim.AdamW(network.parameters(), lr=params.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, params.learning_rate, total_steps=params.steps + 1)
    rng = generator(seed, "batches", spec.model, spec.repeat)
    members = [np.nonzero(labels == c)[0] for c in range(len(task.classes))]
    losses: list[float] = []
    network.train()
    for step in range(params.steps):
        drawn = rng.integers(len(members), size=params.batch_size)
        index = np.array([members[c][rng.integers(len(members[c]))] for c in drawn])
        x = augment(images[index], rng)
        loss = functional.cross_entropy(network(x), torch.from_numpy(labels[index]), label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        yield StepLog(step, losses[-1])
    return TrainingResult(spec, _predict(network, task.test.images), tuple(losses))


def augment(images: npt.NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """Return float32 [B, 1, S, S] in about [-1, 1]: mirrored, moved by up to 1/16, gain and offset varied."""
    side = images.shape[1]
    reach = max(1, side // 16)
    out = np.empty(images.shape, np.float32)
    for i, image in enumerate(images):
        turned = image[:, ::-1] if rng.random() < 0.5 else image
        dy, dx = rng.integers(0, 2 * reach + 1, size=2)
        padded = np.pad(turned, reach)
        gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-0.1, 0.1)
        out[i] = (padded[dy : dy + side, dx : dx + side] / 127.5 - 1) * gain + offset
    return torch.from_numpy(out)[:, None]


def _pool(
    spec: TrainingSpec, task: PlaneTask, params: Evaluate, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the training images and class numbers of an arm; `ratio` synthetic images per real one at most."""
    images, planes = task.real.images, task.real.planes
    if spec.arm == "real+synthetic":
        count = min(len(task.synthetic), round(params.ratio * len(task.real)))
        chosen = np.sort(generator(seed, "synthetic", spec.repeat).permutation(len(task.synthetic))[:count])
        images = np.concatenate([images, task.synthetic.images[chosen]])
        planes = np.concatenate([planes, task.synthetic.planes[chosen]])
    return images, class_numbers(planes, task.classes)


def class_numbers(planes: npt.NDArray[np.str_], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return each image's class number."""
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[str(p)] for p in planes], np.int64)


def _predict(network: torch.nn.Module, images: npt.NDArray[np.uint8], batch: int = 32) -> tuple[int, ...]:
    network.eval()
    found: list[int] = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            x = torch.from_numpy(images[start : start + batch].astype(np.float32) / 127.5 - 1)[:, None]
            found += network(x).argmax(1).tolist()
    return tuple(found)
