"""The velocity field that sampling follows: guided towards what is asked, away from what is avoided, and steered.

Guidance is classifier-free; steering pulls the predicted clean image towards what the guide should see in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.diffusion.objective import Velocity, clean_estimate
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.condition import AS_MASK, Condition, condition_from_layouts, null_condition
from fetalflex.model.generator import Generator


def guided(
    generator: Generator, asked: Sequence[Layout], avoided: Sequence[Layout | None], guidance: float
) -> Velocity:
    """Return the guided velocity field under these layouts; conditions are encoded once for all steps.

    v = v_null + g (v_cond - v_null); where a layout is to be avoided, its velocity stands for v_null. At g = 1 both
    are the conditional field alone, and only that is evaluated.
    Source: Ho & Salimans 2022 (arXiv 2207.12598), equation 6 with w = g - 1.
    """
    device = next(generator.denoiser.parameters()).device
    condition = condition_from_layouts(asked, generator.vocabulary, generator.size)
    if guidance != 1.0:
        condition = Condition.join([condition, _against(condition, asked, avoided, generator)])
    with torch.no_grad():
        code = generator.denoiser.layout_encoder(condition.to(device))

    @torch.no_grad()
    def field(x: Tensor, t: Tensor) -> Tensor:
        if guidance == 1.0:
            return generator.denoiser.predict(x, t, code)
        with_, without = generator.denoiser.predict(torch.cat([x, x]), torch.cat([t, t]), code).chunk(2)
        return without + guidance * (with_ - without)

    return field


def _against(
    condition: Condition, asked: Sequence[Layout], avoided: Sequence[Layout | None], generator: Generator
) -> Condition:
    """Return what guidance points away from: the avoided layout where there is one, else nothing asked."""
    null = null_condition(condition)
    if all(layout is None for layout in avoided):
        return null
    filled = [ask if layout is None else layout for ask, layout in zip(asked, avoided, strict=True)]
    other = condition_from_layouts(filled, generator.vocabulary, generator.size)
    rows = [i if layout is None else len(asked) + i for i, layout in enumerate(avoided)]
    return Condition.join([null, other]).take(rows)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What the guide should see: maps float32 [B, K, S, S], and which of them count, float32 [B, K]."""

    maps: Tensor
    counts: Tensor


def wanted(layouts: Sequence[Layout], known: tuple[str, ...], size: int) -> Wanted:
    """Return the outlines (not the bare boxes) and absences that these layouts ask for and the guide knows."""
    drawn = [rasterize(layout, size) for layout in layouts]
    outlined = np.stack([d.kinds == AS_MASK for d in drawn])
    absent = np.array([[name in layout.absent for name in STRUCTURE_NAMES] for layout in layouts])
    trained = np.array([name in known for name in STRUCTURE_NAMES])
    maps = np.stack([d.maps for d in drawn])
    return Wanted(torch.from_numpy(maps), torch.from_numpy(((outlined | absent) & trained).astype(np.float32)))


def steered(field: Velocity, guide: Segmenter, aim: Wanted, strength: float) -> Velocity:
    """Return the field whose clean estimate is moved down the gradient of the guide's Dice loss, without a further
    evaluation of the denoiser.

    x_0 = x - t v is moved by (root mean square over the image) strength x loss, so that it ends where the guide
    agrees; v = (x - x_0) / t again. The gradient goes through the guide alone.
    Source: manifold preserving guided diffusion (He et al. 2024, arXiv 2311.16424), algorithm 1, for a velocity.
    """

    def moved(x: Tensor, t: Tensor) -> Tensor:
        clean = clean_estimate(x, field(x, t), t)
        slope, loss = guide_gradient(guide, aim, clean)
        size = slope.square().mean((1, 2, 3)).sqrt().clamp(min=1e-12)
        clean = clean - (strength * loss / size)[:, None, None, None] * slope
        return (x - clean) / t[:, None, None, None]

    return moved


def guide_gradient(guide: Segmenter, aim: Wanted, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient [B, 1, S, S] and the value [B] of the guide's soft Dice loss for clean images [B, 1, S, S].

    The mean over the structures that count; 0 where none does. Source: Milletari et al. 2016 (arXiv 1606.04797),
    equation 3.
    """
    maps, counts = aim.maps.to(clean.device), aim.counts.to(clean.device)
    with torch.enable_grad():
        image = clean.detach().requires_grad_(True)
        chance = guide(image).sigmoid()
        both = (chance * maps).sum((2, 3))
        dice = 1 - (2 * both + 1) / (chance.sum((2, 3)) + maps.sum((2, 3)) + 1)
        loss = (dice * counts).sum(1) / counts.sum(1).clamp(min=1)
        (gradient,) = torch.autograd.grad(loss.sum(), image)
    return gradient, loss.detach()
