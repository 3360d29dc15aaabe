"""Flow matching: the straight path between an image and noise, and the loss on its velocity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fetalflex.model.batches import seen_mean

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x [B, 1, S, S], t [B]) -> velocity [B, 1, S, S]."""


def interpolate(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t = (1 - t) x_0 + t eps; t [B] in [0, 1], 0 is the image.

    Source: Lipman et al. 2023 (arXiv 2210.02747), equation 22 with sigma_min = 0 and time reversed; Liu et al. 2023
    (arXiv 2209.03003), equation 1.
    """
    t = t[:, None, None, None]
    return (1 - t) * clean + t * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """Return v = dx_t / dt = eps - x_0. Source: Liu et al. 2023, equation 1."""
    return noise - clean


def clean_estimate(x: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
    """Return the image that a velocity points to: x_0 = x_t - t v."""
    return x - t[:, None, None, None] * predicted


def sample_times(count: int, mean: float, std: float, random: torch.Generator) -> Tensor:
    """Return t [count] with logit(t) ~ N(mean, std), one draw in each of `count` equal quantiles.

    Stratification lowers the variance of the loss in small batches without changing its mean.
    Source: logit-normal, Esser et al. 2024 (arXiv 2403.03206), equation 19; stratified as in Kingma et al. 2021
    (arXiv 2107.00630), appendix I.1.
    """
    quantiles = (torch.arange(count) + torch.rand(count, generator=random)) / count
    quantiles = quantiles.clamp(1e-4, 1 - 1e-4)[torch.randperm(count, generator=random)]
    normal = torch.special.ndtri(quantiles)
    return torch.sigmoid(mean + std * normal)


def flow_loss(model: Velocity, clean: Tensor, noise: Tensor, t: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Return the mean squared error of the velocity, per image [B].

    `ignored`: float [B, 1, S, S], 1 where a pixel must not count (marks), None where all count. The mean is over the
    pixels that count. Source: conditional flow matching, Lipman et al. 2023, equation 9.
    """
    predicted = model(interpolate(clean, noise, t), t)
    error = (predicted.float() - velocity(clean, noise)).square()
    return seen_mean(error, ignored, (1, 2, 3))
