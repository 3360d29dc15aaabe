"""Repaint: only a region of a reference image is generated; the rest stays the reference's own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from fetalflex.anatomy.layout import Mask
from fetalflex.diffusion.objective import Velocity, interpolate

Draw = Callable[[str, int], Tensor]
"""(purpose, step) -> standard normal noise [B, 1, S, S], each image from its own seed."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """What is kept.

    reference: float32 [B, 1, S, S] in [-1, 1]; region: float32 [B, 1, S, S], 1 where the image may change.
    """

    reference: Tensor
    region: Tensor


def repaint(model: Velocity, canvas: Canvas, times: Tensor, jumps: int, draw: Draw) -> Tensor:
    """Generate inside the region by Euler steps over times [T], with `jumps` resampling jumps per step.

    At every time the outside is the reference noised to that time. A jump noises the step's result back and takes
    the step again, so that both sides of the edge harmonise. (1 + jumps) (T - 1) - jumps evaluations: the last step
    has none. Returns [B, 1, S, S]; outside the region it is the reference.
    Source: RePaint (Lugmayr et al. 2022, arXiv 2201.09865), algorithm 1, here for the straight path of flow matching.
    """
    batch = canvas.reference.shape[0]

    def at(time: Tensor) -> Tensor:
        return time.to(canvas.reference).expand(batch)

    outside = draw("outside", 0)  # one noise for all times: the reference moves along its own straight path
    x = interpolate(canvas.reference, draw("start", 0), at(times[0]))
    x = merge(x, interpolate(canvas.reference, outside, at(times[0])), canvas.region)
    for index, (now, then) in enumerate(pairwise(times.unbind(0))):
        for jump in range(jumps + 1):
            ahead = x + (then - now) * model(x, at(now))
            ahead = merge(ahead, interpolate(canvas.reference, outside, at(then)), canvas.region)
            if jump == jumps or float(then) == 0.0:
                break
            x = renoise(ahead, at(then), at(now), draw("jump", index * (jumps + 1) + jump))
            x = merge(x, interpolate(canvas.reference, outside, at(now)), canvas.region)
        x = ahead
    return x


def merge(inside: Tensor, outside: Tensor, region: Tensor) -> Tensor:
    """Return `inside` where region is 1, `outside` elsewhere, neither of them blended."""
    return torch.where(region > 0.5, inside, outside)


def renoise(x: Tensor, now: Tensor, later: Tensor, noise: Tensor) -> Tensor:
    """Carry x from time `now` to a noisier time `later` (both [B], now < later <= 1) with fresh noise.

    x_t = a x_s + sqrt(t^2 - a^2 s^2) eps, a = (1 - t) / (1 - s): it has the law that x_t has on the straight path.
    """
    scale = (1 - later) / (1 - now)
    spread = (later**2 - (scale * now) ** 2).clamp(min=0).sqrt()
    return scale[:, None, None, None] * x + spread[:, None, None, None] * noise


def grow(region: Mask, margin_px: int) -> Mask:
    """Return a region [S, S] grown by `margin_px` pixels in all eight directions."""
    if margin_px == 0:
        return region
    grown: Mask = ndimage.binary_dilation(region, np.ones((3, 3), bool), iterations=margin_px)
    return grown


def compose(pixels: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], region: Mask) -> npt.NDArray[np.uint8]:
    """Return the image uint8 [S, S] whose pixels outside the region are the reference's bytes."""
    return np.where(region, pixels, reference)
