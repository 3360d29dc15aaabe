"""Samplers: pure functions that carry noise to images along a velocity field, each named for its algorithm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fetalflex.diffusion.objective import Velocity, clean_estimate

Keep = Callable[[Tensor, Tensor], Tensor]
"""(x [B, 1, S, S], t [B]) -> x with what must not change put back as it is at time t."""


def time_grid(steps: int, start: float = 1.0) -> Tensor:
    """Return steps + 1 times from `start` down to 0, equally spaced: float32 [steps + 1]."""
    return torch.linspace(start, 0.0, steps + 1)


def time_grids(steps: int, starts: Tensor) -> Tensor:
    """Return one grid per image, from starts [B] down to 0: float32 [steps + 1, B]."""
    return time_grid(steps)[:, None] * starts[None]


@dataclass(frozen=True, eq=False)
class Step:
    """The outcome of a step: x [B, 1, S, S] at time [B], and the clean image that the step's velocity pointed to."""

    x: Tensor
    clean: Tensor
    time: Tensor


def euler_steps(model: Velocity, x: Tensor, times: Tensor, keep: Keep | None = None) -> Iterator[Step]:
    """Integrate dx/dt = v(x, t) by Euler's method over times [T] or, one grid per image, [T, B]; yield every step.

    Equal to diffusers' FlowMatchEulerDiscreteScheduler with these sigmas. T - 1 evaluations.
    Source: Liu et al. 2023 (arXiv 2209.03003), section 2.1.
    """
    for now, then in _pairs(times, x):
        slope = model(x, now)
        clean = clean_estimate(x, slope, now)
        x = x + _wide(then - now) * slope
        x = x if keep is None else keep(x, then)
        yield Step(x, clean, then)


def euler(model: Velocity, x: Tensor, times: Tensor, keep: Keep | None = None) -> Tensor:
    """Return where `euler_steps` ends."""
    for step in euler_steps(model, x, times, keep):
        x = step.x
    return x


def multistep_steps(model: Velocity, x: Tensor, times: Tensor, keep: Keep | None = None) -> Iterator[Step]:
    """Integrate like `euler_steps`, but towards the clean image as it will be in the middle of the step.

    That lies on the line through the last two clean images, in half the logarithm of the signal-to-noise ratio. Where
    that is infinite, from noise and into the image, a step is Euler's. T - 1 evaluations, second order. Equal to
    diffusers' DPMSolverMultistepScheduler (flow prediction, midpoint) with these sigmas.
    Source: Lu et al. 2022, DPM-Solver++ (arXiv 2211.01095), algorithm 2 (2M), whose update is a straight line here.
    """
    clean: Tensor | None = None
    before: Tensor | None = None
    for now, then in _pairs(times, x):
        slope, last = model(x, now), clean
        clean, stride = clean_estimate(x, slope, now), _signal(then) - _signal(now)
        aim = clean if last is None or before is None else clean + _wide(_share(stride, before)) * (clean - last)
        x = x + _wide((now - then) / now) * (aim - x)
        x, before = x if keep is None else keep(x, then), stride
        yield Step(x, clean, then)


def multistep(model: Velocity, x: Tensor, times: Tensor, keep: Keep | None = None) -> Tensor:
    """Return where `multistep_steps` ends."""
    for step in multistep_steps(model, x, times, keep):
        x = step.x
    return x


Solver = Callable[[Velocity, Tensor, Tensor, Keep | None], Iterator[Step]]
SOLVERS: dict[str, Solver] = {"euler": euler_steps, "multistep": multistep_steps}


def _signal(t: Tensor) -> Tensor:
    """Return half the logarithm of the signal-to-noise ratio at times [B]; infinite at 0 and 1."""
    return ((1 - t) / t).log()


def _share(stride: Tensor, before: Tensor) -> Tensor:
    """Return how far to extrapolate: half a step over the last one [B]; 0 where one of them is infinite."""
    share = stride / (2 * before)
    return torch.where(stride.isfinite() & before.isfinite(), share, torch.zeros_like(share))


def heun(model: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Integrate dx/dt = v(x, t) by Heun's second-order method; the last step, which ends at t = 0, is Euler's.

    2 (T - 1) - 1 evaluations. Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1, for a velocity.
    """
    pairs = _pairs(times, x)
    for index, (now, then) in enumerate(pairs):
        slope = model(x, now)
        ahead = x + _wide(then - now) * slope
        if index + 1 == len(pairs):
            return ahead
        x = x + _wide(then - now) * (slope + model(ahead, then)) / 2
    return x


def _pairs(times: Tensor, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    grids = times if times.ndim == 2 else times[:, None].expand(-1, x.shape[0])
    grids = grids.to(x.device, torch.float32)
    return list(zip(grids[:-1].unbind(0), grids[1:].unbind(0), strict=True))


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def noise(seeds: list[int], size: int, channels: int = 1) -> Tensor:
    """Return standard normal noise [B, channels, size, size], each image from its own seed."""
    drawn = [torch.randn(channels, size, size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn)
