"""Training of the generator: a generator of steps, each a pure function of (seed, step) and the state before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fetalflex.dataset import Cases
from fetalflex.diffusion.objective import flow_loss, sample_times
from fetalflex.errors import ModelError
from fetalflex.model.batches import Moves, Pictures, batch_positions, cases_digest, first_weights, step_random
from fetalflex.model.checkpoint import Ema, digest_of
from fetalflex.model.condition import Condition, Described, Dropping, drop_conditions
from fetalflex.model.denoiser import BLACK, Backbone, build_denoiser
from fetalflex.model.generator import Generator
from fetalflex.model.loop import Loop, Plan, open_devices, training_precision
from fetalflex.model.prealign import Aligner
from fetalflex.model.sectors import Sectors
from fetalflex.params import Train
from fetalflex.rng import derive_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

# Whole pixels: what is interpolated has a third of the power of real speckle, and so has what is learnt from it.
_MOVES = Moves(flip=0.5, shift=0.03)
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Run:
    """Where and how a training runs. `threads` and `device` change the last bits of its result, `state_dir` nothing.

    On `cuda`, each process that `accelerate launch` started takes its share of every batch. `channels_last`: how the
    network's tensors lie in memory, which some GPUs compute faster with.
    """

    seed: int
    state_dir: Path | None = None
    threads: int = 1
    device: str = "cpu"
    channels_last: bool = False


@dataclass(frozen=True, eq=False)
class TrainStep:
    """One step, `step` counted from 1: loss, learning rate, norm of the gradient before it was clipped.

    `trained` is the result (the averaged weights), on the last step alone.
    """

    step: int
    loss: float
    learning_rate: float
    gradient: float
    trained: Generator | None = None


def train_generator(cases: Cases, aligner: Aligner, params: Train, run: Run) -> Iterator[TrainStep]:
    """Train a generator on all given cases; resumes, bit for bit, from the last checkpoint in `run.state_dir`.

    The centers' vocabulary is the aligner's.
    Raises: TooFewCasesError; ModelError for a checkpoint of another configuration or computed in another precision, a
    missing or unfit base, a device or precision that is not there.
    """
    params = params.model_copy(update={"precision": training_precision(params.precision, run.device)})
    devices = open_devices(run.device, params.precision)
    torch.set_num_threads(run.threads)
    denoiser, base = new_backbone(cases.size, aligner, params, run.seed)
    denoiser.to(devices.device)
    if run.channels_last:
        denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if params.gradient_checkpointing:
        denoiser.checkpoint_gradients()
    learner = denoiser.learner
    optimizer = torch.optim.AdamW(
        [p for p in learner.parameters() if p.requires_grad],
        lr=params.learning_rate, betas=(0.9, 0.99), weight_decay=_WEIGHT_DECAY, fused=True,
    )  # fmt: skip
    known = {"vocabulary": aligner.vocabulary, "base": base, "black": BLACK}
    digest = digest_of(params, seed=run.seed, data=cases_digest(cases), **known)
    objective, prepared = devices.prepare(Objective(denoiser), optimizer)
    ema = Ema(learner, params.ema_decay)
    plan = Plan(params.steps, params.learning_rate, params.warmup_steps, params.checkpoint_every, digest, run.state_dir)
    loop = Loop(learner, prepared, plan, ema, devices)
    batches = Batches(cases, aligner.vocabulary, params, run.seed, denoiser, devices.device)

    def finished() -> Generator:
        ema.copy_to(learner)
        return Generator(denoiser.eval(), aligner.vocabulary, cases.size, digest, Sectors.of(cases))

    if loop.done == params.steps:
        yield TrainStep(loop.done, float("nan"), 0.0, float("nan"), finished())
    for step in loop.remaining():
        batch = batches.draw(step).share(devices)
        loss = objective(batch)
        gradient = loop.update(step, loss)
        shown = float(devices.reduce(loss.detach(), "mean"))
        yield TrainStep(step + 1, shown, loop.rate(step), gradient, finished() if loop.is_last(step) else None)


def new_backbone(size: int, aligner: Aligner, params: Train, seed: int) -> tuple[Backbone, str]:
    """Return the denoiser that a training begins with, and the digest of its pretrained base (empty: none).

    Raises: ModelError where aligner, parameters and base do not fit each other.
    """
    if aligner.patch != params.patch:
        raise ModelError(f"the aligner was trained for patch {aligner.patch}; expected train.patch {params.patch}")
    with first_weights(step_random(seed, "denoiser").initial_seed()):
        if params.backbone == "unet":
            return build_denoiser(params, aligner.layout_encoder, size), ""
        from fetalflex.model.stable_diffusion import StableDiffusion, load_base

        base = load_base(str(params.base))
        return StableDiffusion.around(base, aligner.layout_encoder, params.patch, size), base.sha256


@dataclass(frozen=True, eq=False)
class Batch:
    """A step's images [B, 1, S, S], noise and times, what is asked, and pixels that do not count (None: all count)."""

    clean: Tensor
    noise: Tensor
    t: Tensor
    asked: Condition
    ignored: Tensor | None

    def share(self, devices: Accelerator) -> Batch:
        """Return this process's share of the batch; all of it where there is one process.

        Every process draws the whole batch: which images, moves and noise a step sees does not depend on how many
        there are. Raises: ModelError where the batch cannot be divided equally.
        """
        count, processes = len(self.asked), devices.num_processes
        if processes == 1:
            return self
        if count % processes:
            raise ModelError(f"train.batch_size {count} cannot be shared by {processes} processes; expected a multiple")
        own = torch.arange(devices.process_index, count, processes, device=self.t.device)
        hidden = None if self.ignored is None else self.ignored[own]
        return Batch(self.clean[own], self.noise[own], self.t[own], self.asked.take(own), hidden)


class Batches:
    """The batches of a training on its device, each a function of (seed, step) and the kind of device alone."""

    def __init__(
        self, cases: Cases, vocabulary: tuple[str, ...], params: Train, seed: int, backbone: Backbone,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.pictures, self.described = Pictures(cases, _MOVES, device), Described(cases, vocabulary)
        self.params, self.seed, self.backbone, self.device = params, seed, backbone, torch.device(device)
        self.count, self.shape = len(cases), backbone.shape(cases.size)
        self.chances = Dropping(params.drop_layout, params.drop_object, params.box_probability, params.drop_modality)

    def draw(self, step: int) -> Batch:
        """Return the batch of a step."""
        params, random = self.params, step_random(self.seed, "train", step)
        at = batch_positions(self.seed, step, self.count, params.batch_size)
        clean, maps, hidden = self.pictures.draw(at, random)
        asked = drop_conditions(self.described.at(torch.from_numpy(at), maps), self.chances, random)
        noise = self._noise(len(at), step, random)
        t = self.backbone.training_times(len(at), random)
        if t is None:
            t = sample_times(len(at), params.time_mean, params.time_std, random)
        return Batch(clean, noise, t.to(self.device), asked, hidden)

    def _noise(self, count: int, step: int, random: torch.Generator) -> Tensor:
        """Return a step's noise [count, C, s, s]; a GPU draws its own, for a CPU's would take as long as the step."""
        if self.device.type == "cpu":
            return torch.randn(count, *self.shape, generator=random)
        own = torch.Generator(self.device).manual_seed(derive_seed(self.seed, "noise", step))
        return torch.randn(count, *self.shape, generator=own, device=self.device)


class Objective(nn.Module):
    """A denoiser's training loss as a module, which accelerate can wrap."""

    def __init__(self, denoiser: Backbone) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""
        code = self.denoiser.layout_encoder(batch.asked)
        clean, ignored = self.denoiser.encode(batch.clean), batch.ignored
        if ignored is not None and ignored.shape[-1] != clean.shape[-1]:
            ignored = nn.functional.adaptive_max_pool2d(ignored, clean.shape[-1])
        error = flow_loss(lambda x, t: self.denoiser.predict(x, t, code), clean, batch.noise, batch.t, ignored)
        weight = self.denoiser.loss_weight(batch.t)
        return (error if weight is None else error * weight).mean()
