"""Training of the generator: a generator of steps, each a pure function of (seed, step) and the state before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fetalflex.dataset import Cases
from fetalflex.diffusion.objective import flow_loss, sample_times
from fetalflex.errors import ModelError
from fetalflex.model.batches import (
    Moves,
    augment_with,
    batch_positions,
    cases_digest,
    first_weights,
    ignored_maps,
    learning_rate,
    step_random,
    to_signal,
)  # fmt: skip
from fetalflex.model.checkpoint import Ema, digest_of, load_checkpoint, save_checkpoint
from fetalflex.model.condition import Condition, Dropping, condition_from_cases, drop_conditions, settle
from fetalflex.model.denoiser import Denoiser, build_denoiser
from fetalflex.model.generator import Generator
from fetalflex.model.prealign import Aligner
from fetalflex.params import Train

_MOVES = Moves(flip=0.5, scale=0.06, shift=0.03)
_WEIGHT_DECAY, _CLIP = 0.01, 1.0


@dataclass(frozen=True)
class Run:
    """Where and how a training runs. `threads` and `device` change the last bits of its result, `state_dir` nothing."""

    seed: int
    state_dir: Path | None = None
    threads: int = 1
    device: str = "cpu"


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
    Raises: TooFewCasesError; ModelError for a checkpoint of another configuration.
    """
    torch.set_num_threads(run.threads)
    if aligner.patch != params.patch:
        raise ModelError(f"the aligner was trained for patch {aligner.patch}; expected train.patch {params.patch}")
    with first_weights(step_random(run.seed, "denoiser").initial_seed()):
        denoiser = build_denoiser(params, aligner.layout_encoder, cases.size).to(run.device)
    optimizer = torch.optim.AdamW(
        denoiser.parameters(), lr=params.learning_rate, betas=(0.9, 0.99), weight_decay=_WEIGHT_DECAY
    )
    ema = Ema(denoiser, params.ema_decay)
    digest = digest_of(params, seed=run.seed, data=cases_digest(cases), vocabulary=aligner.vocabulary)
    done = load_checkpoint(run.state_dir, digest, denoiser, optimizer, ema)
    described, signal = condition_from_cases(cases, aligner.vocabulary), to_signal(cases.images)
    ignored = ignored_maps(cases)

    def finished() -> Generator:
        ema.copy_to(denoiser)
        return Generator(denoiser.eval(), aligner.vocabulary, cases.size, digest)

    if done == params.steps:
        yield TrainStep(done, float("nan"), 0.0, float("nan"), finished())
    for step in range(done, params.steps):
        rate = learning_rate(step, params.steps, params.learning_rate, params.warmup_steps)
        batch = _batch((signal, ignored), described, params, run.seed, step)
        loss, gradient = _update(denoiser, optimizer, rate, params, batch.to(run.device))
        ema.update(denoiser, step)
        last = step + 1 == params.steps
        if run.state_dir is not None and (last or (step + 1) % params.checkpoint_every == 0):
            save_checkpoint(run.state_dir, digest, step + 1, denoiser, optimizer, ema)
        yield TrainStep(step + 1, loss, rate, gradient, finished() if last else None)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Images, what is asked of them, pixels that do not count (None: all count), and the step's random generator."""

    clean: Tensor
    asked: Condition
    ignored: Tensor | None
    random: torch.Generator

    def to(self, device: str) -> _Batch:
        ignored = None if self.ignored is None else self.ignored.to(device)
        return _Batch(self.clean.to(device), self.asked.to(device), ignored, self.random)


def _batch(pictures: tuple[Tensor, Tensor | None], described: Condition, params: Train, seed: int, step: int) -> _Batch:
    """Return the batch of a step: a function of (seed, step). `pictures`: signals and where they do not count."""
    random = step_random(seed, "train", step)
    signal, ignored = pictures
    positions = torch.from_numpy(batch_positions(seed, step, signal.shape[0], params.batch_size))
    clean, maps, hidden = augment_with(
        signal[positions], described.maps[positions], None if ignored is None else ignored[positions], _MOVES, random
    )
    whole = settle(replace(described.take(positions), maps=maps))
    chances = Dropping(params.drop_layout, params.drop_object, params.box_probability, params.drop_modality)
    return _Batch(clean, drop_conditions(whole, chances, random), hidden, random)


def _update(
    denoiser: Denoiser, optimizer: torch.optim.Optimizer, rate: float, params: Train, batch: _Batch
) -> tuple[float, float]:
    """Take one optimiser step; return the loss and the gradient's norm."""
    clean, random = batch.clean, batch.random
    noise = torch.randn(clean.shape, generator=random).to(clean.device)
    t = sample_times(clean.shape[0], params.time_mean, params.time_std, random).to(clean.device)
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=params.precision == "bf16"):
        code = denoiser.layout_encoder(batch.asked)
        loss = flow_loss(lambda x, s: denoiser.predict(x, s, code), clean, noise, t, batch.ignored).mean()
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    gradient = nn.utils.clip_grad_norm_(denoiser.parameters(), _CLIP)
    optimizer.step()
    return float(loss.detach()), float(gradient)
