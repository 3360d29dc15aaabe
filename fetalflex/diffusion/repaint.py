"""Repaint: only a region of a reference image is generated; the rest stays the reference's own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from fetalflex.anatomy.layout import Mask
from fetalflex.diffusion.objective import Velocity, clean_estimate, interpolate
from fetalflex.diffusion.solver import Solver, Step, euler_steps

Pixels = npt.NDArray[np.uint8]
Draw = Callable[[str, int], Tensor]
"""(purpose, step) -> standard normal noise [B, 1, S, S], each image from its own seed."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """What is kept.

    reference: float32 [B, 1, S, S] in [-1, 1]; region: float32 [B, 1, S, S], 1 where the image may change.
    """

    reference: Tensor
    region: Tensor


def repaint_cost(steps: int, jumps: int) -> int:
    """Return the network evaluations of a repaint: every step is taken 1 + jumps times, the last one once."""
    return (1 + jumps) * steps - jumps


def repaint_steps(steps: int, jumps: int, budget: int) -> int:
    """Return the most steps, `steps` at most, whose repaint costs no more than the budget (1 or more)."""
    return min(steps, (budget + jumps) // (1 + jumps))


def repaint(model: Velocity, canvas: Canvas, times: Tensor, jumps: int, draw: Draw) -> Tensor:
    """Return where `repainting` ends: [B, 1, S, S]; outside the region it is the reference."""
    x = canvas.reference
    for step in repainting(model, canvas, times, jumps, draw):
        x = step.x
    return x


def repainting(
    model: Velocity, canvas: Canvas, times: Tensor, jumps: int, draw: Draw, solver: Solver = euler_steps
) -> Iterator[Step]:
    """Generate inside the region over times [T], with `jumps` resampling jumps per step.

    Without jumps by the steps of `solver`, with them by Euler's: after a jump there is no path behind to go on from. At
    every time the outside is the reference noised to that time. A jump noises the step's result back, inside and
    outside alike, and takes the step again, so that both sides of the edge harmonise. `repaint_cost` evaluations;
    every one is yielded, with x as it is after it.

    Why this is right for the straight path: with x_s = (1 - s) x_0 + s e a jump to t gives
    (1 - t) x_0 + (a s e + sqrt(t^2 - a^2 s^2) eps), a = (1 - t) / (1 - s), and the bracket is t e' with e' standard
    normal again. So the outside after a jump is again the reference on a straight path, now with the noise e'. Between
    jumps the outside keeps its noise: an ODE's path has one noise, and a fresh one at each step would jolt the inside.
    Source: RePaint (Lugmayr et al. 2022, arXiv 2201.09865), algorithm 1, carried over to flow matching.
    """
    batch = canvas.reference.shape[0]

    def at(time: Tensor) -> Tensor:
        return time.to(canvas.reference).expand(batch)

    outside = draw("outside", 0)
    x = interpolate(canvas.reference, merge(draw("start", 0), outside, canvas.region), at(times[0]))
    if not jumps:

        def keep(x: Tensor, t: Tensor) -> Tensor:
            return merge(x, interpolate(canvas.reference, outside, t), canvas.region)

        yield from solver(model, x, times, keep)
        return
    for index, (now, then) in enumerate(pairwise(times.unbind(0))):
        for jump in range(jumps + 1):
            slope = model(x, at(now))
            clean, ahead = clean_estimate(x, slope, at(now)), x + (then - now) * slope
            ahead = merge(ahead, interpolate(canvas.reference, outside, at(then)), canvas.region)
            if jump == jumps or float(then) == 0.0:
                x = ahead
                yield Step(x, clean, at(then))
                break
            fresh = draw("jump", index * (jumps + 1) + jump)
            outside = renew(outside, at(then), at(now), fresh)
            x = renoise(ahead, at(then), at(now), fresh)
            x = merge(x, interpolate(canvas.reference, outside, at(now)), canvas.region)
            yield Step(x, clean, at(now))


def merge(inside: Tensor, outside: Tensor, region: Tensor) -> Tensor:
    """Return `inside` where region is 1, `outside` elsewhere, neither of them blended."""
    return torch.where(region > 0.5, inside, outside)


def renoise(x: Tensor, now: Tensor, later: Tensor, noise: Tensor) -> Tensor:
    """Carry x from time `now` to a noisier time `later` (both [B], now < later <= 1) with fresh noise.

    x_t = a x_s + sqrt(t^2 - a^2 s^2) eps, a = (1 - t) / (1 - s): it has the law that x_t has on the straight path.
    """
    scale, spread = _kernel(now, later)
    return scale[:, None, None, None] * x + spread[:, None, None, None] * noise


def renew(noise: Tensor, now: Tensor, later: Tensor, fresh: Tensor) -> Tensor:
    """Return the noise of a straight path after `renoise` with `fresh`: (a s e + sqrt(t^2 - a^2 s^2) eps) / t."""
    scale, spread = _kernel(now, later)
    return (scale * now / later)[:, None, None, None] * noise + (spread / later)[:, None, None, None] * fresh


def _kernel(now: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    scale = (1 - later) / (1 - now)
    return scale, (later**2 - (scale * now) ** 2).clamp(min=0).sqrt()


def grow(region: Mask, margin_px: int) -> Mask:
    """Return a region [S, S] grown by `margin_px` pixels in all eight directions."""
    if margin_px == 0:
        return region
    grown: Mask = ndimage.binary_dilation(region, np.ones((3, 3), bool), iterations=margin_px)
    return grown


def compose(pixels: Pixels, reference: Pixels, region: Mask, ramp_px: int = 0) -> Pixels:
    """Return the image uint8 [S, S] whose pixels outside the region are the reference's bytes.

    Inside, the pixels at distance 1 .. ramp_px of the outside are blended, with weights d / (ramp_px + 1) of the new
    image: an edge between two textures becomes a ramp that lies wholly in the region.
    """
    if ramp_px == 0 or region.all():
        return np.where(region, pixels, reference)
    # What lies beyond the frame is no outside: the region's own rim at the frame is not blended.
    padded = np.pad(region, 1, constant_values=True)
    distance = np.asarray(ndimage.distance_transform_cdt(padded, "chessboard"))[1:-1, 1:-1]
    weight = np.clip(distance / (ramp_px + 1), 0, 1)
    blended = np.rint(weight * pixels + (1 - weight) * reference).astype(np.uint8)
    return np.where(region, blended, reference)
