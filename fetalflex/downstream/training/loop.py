"""The training loop, the same for every model, task and arm: AdamW, one cycle of the rate, balanced batches."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fetalflex.downstream.data.arms import Pool
from fetalflex.downstream.data.augment import classic, light, to_signal
from fetalflex.downstream.models.classifier import RATE_SCALE, Classifier, build_classifier
from fetalflex.params_evaluate import Evaluate, ModelName
from fetalflex.rng import derive_seed, generator

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StepLog:
    """One training step."""

    step: int
    loss: float


@dataclass(frozen=True)
class Learner:
    """Which network, from which start: arms of equal (model, repeat) start from equal weights. `device`: torch's."""

    model: ModelName
    repeat: int
    seed: int
    device: str = "cpu"


def train(learner: Learner, pool: Pool, params: Evaluate) -> tuple[Classifier, tuple[float, ...]]:
    """Train to the end; return the network in evaluation mode and its losses."""
    losses = []
    steps = train_steps(learner, pool, params)
    while True:
        try:
            losses.append(next(steps).loss)
        except StopIteration as end:
            return end.value, tuple(losses)


def train_steps(learner: Learner, pool: Pool, params: Evaluate) -> Generator[StepLog, None, Classifier]:
    """Train one classifier, yielding each step; the generator's value is the network.

    Batches draw a class first, then one of its groups, then an image: every arm sees the classes equally often.
    """
    side, start = pool.images.shape[1], derive_seed(learner.seed, learner.model, learner.repeat)
    network = build_classifier(
        learner.model, params.size, len(pool.classes), side, start, pretrained=params.pretrained.get(learner.model)
    ).to(learner.device)
    rate = params.learning_rate * RATE_SCALE.get(learner.model, 1.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=params.steps + 1)
    rng = generator(learner.seed, "batches", learner.model, learner.repeat)
    members = _members(pool)
    network.train()
    for step in range(params.steps):
        index = _draw(members, params.batch_size, rng)
        x = (classic if pool.strong else light)(pool.images[index], rng).to(learner.device)
        target = torch.from_numpy(pool.labels[index]).to(learner.device)
        loss = functional.cross_entropy(network(x), target, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield StepLog(step, float(loss.detach()))
    return network.eval()


def probabilities(network: Classifier, images: Images) -> Floats:
    """Return the class probabilities float32 [N, classes]."""
    return _in_batches(network, images, lambda x: torch.softmax(network(x), 1))


def embeddings(network: Classifier, images: Images) -> Floats:
    """Return the pooled features float32 [N, D], each of length one."""
    return _in_batches(network, images, lambda x: functional.normalize(network.embed(x)))


def feature_maps(network: Classifier, images: Images) -> Floats:
    """Return the last feature maps float32 [N, D, h, w]."""
    return _in_batches(network, images, network.maps)


@torch.no_grad()
def _in_batches(network: Classifier, images: Images, ask: Callable[[Tensor], Tensor], batch: int = 64) -> Floats:
    """Return what is asked of all images; of none, an empty array of the right width."""
    device = next(network.parameters()).device
    signal = to_signal(images if len(images) else np.zeros((1, *images.shape[1:]), np.uint8))
    parts = [ask(part.to(device)).float().cpu().numpy() for part in torch.split(signal, batch)]
    found: Floats = np.concatenate(parts)[: len(images)]
    return found


def _members(pool: Pool) -> list[list[npt.NDArray[np.int64]]]:
    """Return the positions of each class's groups."""
    classes = [np.nonzero(pool.labels == c)[0] for c in range(len(pool.classes))]
    return [[here[pool.groups[here] == g] for g in np.unique(pool.groups[here])] for here in classes]


def _draw(members: list[list[npt.NDArray[np.int64]]], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    chosen = np.empty(count, np.int64)
    for i, c in enumerate(rng.integers(len(members), size=count)):
        group = members[c][rng.integers(len(members[c]))]
        chosen[i] = group[rng.integers(len(group))]
    return chosen
