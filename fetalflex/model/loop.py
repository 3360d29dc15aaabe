"""The loop that every training here shares: rate, backward pass, clipping, averaging, checkpoints, resuming.

A step is a pure function of (seed, step) and the state before it, so a resumed training repeats the interrupted one
bit for bit on one device.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from fetalflex.errors import ModelError
from fetalflex.model.batches import learning_rate
from fetalflex.model.checkpoint import Ema, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from accelerate import Accelerator

_CLIP = 1.0
_NAMED = {"cpu": "processor", "cuda": "GPU"}


@dataclass(frozen=True)
class Plan:
    """How long and at which rate a loop runs, where its state lies (None: nowhere), and what the state belongs to."""

    steps: int
    learning_rate: float
    warmup: int
    checkpoint_every: int
    digest: str
    state_dir: Path | None = None


@dataclass(frozen=True)
class Where:
    """Where a training runs. `threads` and `device` change the last bits of its result, `state_dir` nothing."""

    state_dir: Path | None = None
    threads: int = 1
    device: str = "cpu"


class Loop:
    """One optimiser's way through a plan. `module` holds the parameters that are trained and saved.

    `devices`: the Accelerator that prepared the optimizer, where there may be several processes; it is told the
    gradients, and its main process alone writes checkpoints.
    Raises: ModelError for a checkpoint that is damaged or of another configuration.
    """

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, ema: Ema | None = None,
        devices: Accelerator | None = None,
    ) -> None:  # fmt: skip
        self.module, self.optimizer, self.plan, self.ema, self.devices = module, optimizer, plan, ema, devices
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.done = load_checkpoint(plan.state_dir, plan.digest, module, optimizer, ema)

    def remaining(self) -> range:
        """Return the steps that are left, counted from 0."""
        return range(self.done, self.plan.steps)

    def is_last(self, step: int) -> bool:
        """Return whether the plan ends with this step."""
        return step + 1 == self.plan.steps

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return learning_rate(step, self.plan.steps, self.plan.learning_rate, self.plan.warmup)

    def update(self, step: int, loss: Tensor) -> float:
        """Take the optimiser's step, save where it is due, and return the gradient's norm before it was clipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.zero_grad()
        if self.devices is None:
            torch.autograd.backward(loss)
        else:
            self.devices.backward(loss)
        gradient = nn.utils.clip_grad_norm_(self.parameters, _CLIP)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.module, step)
        if self.is_last(step) or (step + 1) % self.plan.checkpoint_every == 0:
            self._save(step + 1)
        return float(gradient)

    def _save(self, steps: int) -> None:
        if self.plan.state_dir is None or not (self.devices is None or self.devices.is_main_process):
            return
        save_checkpoint(self.plan.state_dir, self.plan.digest, steps, self.module, self.optimizer, self.ema)


def check_device(device: str) -> None:
    """Check that a training can run there. Raises: ModelError for a GPU that is not there: a CPU would take days."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda: torch sees no GPU here; expected one, or compute.device cpu")


def training_precision(wanted: str, device: str) -> Literal["fp32", "bf16"]:
    """Return the precision of a training's forward pass there: `auto` is bf16 where the device computes in it.

    Raises: ModelError for a GPU that is not there, or for bf16 on a device without it: a processor's reference kernels
    take over there, and a training of minutes takes hours.
    """
    check_device(device)
    if wanted == "fp32":
        return "fp32"
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = _mkldnn_has_bf16()
    if wanted == "bf16" and not native:
        raise ModelError(
            f"train.precision bf16: this machine's {_NAMED[device]} does not compute in it; expected auto or fp32"
        )
    return "bf16" if native else "fp32"


def _mkldnn_has_bf16() -> bool:
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(there and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def open_devices(device: str, precision: str) -> Accelerator:
    """Return accelerate's view of the devices: `cpu`, or `cuda` (as many as processes were launched).

    accelerate keeps one state per process and refuses another precision or device later; trainings that follow one
    another here must not meet the former one's.
    """
    check_device(device)
    from accelerate import Accelerator  # seconds to import, and segmenters and aligners need none of it
    from accelerate.state import AcceleratorState, PartialState

    several = PartialState().num_processes > 1 if PartialState._shared_state else False
    AcceleratorState._reset_state(reset_partial_state=not several)
    mixed: Any = "bf16" if precision == "bf16" else "no"
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)
