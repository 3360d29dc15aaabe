"""The velocity field that sampling follows: guided towards what is asked, away from what is avoided, and steered.

Guidance is classifier-free; steering pulls the predicted clean image towards what the guide should see in it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.diffusion.objective import Velocity, clean_estimate
from fetalflex.diffusion.spectrum import rescaled
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.condition import AS_MASK, condition_from_layouts, null_condition
from fetalflex.model.generator import Generator
from fetalflex.model.layout_encoder import LayoutCode


class Codes:
    """Encoded layouts, row by row: what is asked again (another round, the null condition) is not encoded again.

    The encoder always runs on `batch_size` rows, so that a row does not depend on its company. The newest rows are
    kept, 8 batches of them.
    """

    def __init__(self, generator: Generator, batch_size: int) -> None:
        self.generator, self.batch_size = generator, batch_size
        self.rows: OrderedDict[Hashable, LayoutCode] = OrderedDict()
        self.null: LayoutCode | None = None

    def of(self, layouts: Sequence[Layout | None]) -> LayoutCode:
        """Return the code of these layouts as one batch; None asks for nothing."""
        keys = [None if layout is None else _identity(layout) for layout in layouts]
        asked = {key: layout for key, layout in zip(keys, layouts, strict=True) if layout is not None}
        known: dict[Hashable, LayoutCode] = {key: self.rows[key] for key in asked if key in self.rows}
        fresh = [(key, layout) for key, layout in asked.items() if key not in known]
        for start in range(0, len(fresh), self.batch_size):
            part = fresh[start : start + self.batch_size]
            code = self._encode([layout for _, layout in part])
            known |= {key: _row(code, i) for i, (key, _) in enumerate(part)}
        self.rows |= known
        while len(self.rows) > 8 * self.batch_size:
            self.rows.popitem(last=False)
        if None in keys:
            known[None] = self._nothing()
        return _join([known[key] for key in keys])

    def _nothing(self) -> LayoutCode:
        if self.null is None:
            self.null = _row(self._encode([Layout("unknown", "image", 1.0, ())], nothing=True), 0)
        return self.null

    @torch.no_grad()
    def _encode(self, layouts: list[Layout], *, nothing: bool = False) -> LayoutCode:
        filled = layouts + [layouts[-1]] * (self.batch_size - len(layouts))
        condition = condition_from_layouts(filled, self.generator.vocabulary, self.generator.size)
        denoiser = self.generator.denoiser
        condition = (null_condition(condition) if nothing else condition).to(next(denoiser.parameters()).device)
        code: LayoutCode = denoiser.layout_encoder(condition)
        return code


def _identity(layout: Layout) -> Hashable:
    """Return what makes a layout's code: an adapted layout whose objects are still the asked ones has the same."""
    return (
        layout.plane, layout.unit, layout.extent, layout.center, layout.age_weeks, layout.age_derived, layout.absent,
        layout.objects,
    )  # fmt: skip


def _row(code: LayoutCode, index: int) -> LayoutCode:
    """Return one image's code as a batch of one, with memory of its own."""

    def cut(value: Tensor) -> Tensor:
        return value[index : index + 1].clone()

    parts = {f.name: getattr(code, f.name) for f in fields(code)}
    row: dict[str, Any] = {k: tuple(map(cut, v)) if isinstance(v, tuple) else cut(v) for k, v in parts.items()}
    return LayoutCode(**row)


def _join(rows: Sequence[LayoutCode]) -> LayoutCode:
    joined: dict[str, Any] = {}
    for f in fields(rows[0]):
        parts = [getattr(row, f.name) for row in rows]
        several = isinstance(parts[0], tuple)
        joined[f.name] = tuple(torch.cat(p) for p in zip(*parts, strict=True)) if several else torch.cat(parts)
    return LayoutCode(**joined)


def guided(
    codes: Codes, asked: Sequence[Layout], avoided: Sequence[Layout | None], guidance: float, until: float = 1.0,
    rescale: float = 0.0,
) -> Velocity:  # fmt: skip
    """Return the guided velocity field under these layouts; conditions are encoded once for all steps.

    v = v_null + g (v_cond - v_null); where a layout is to be avoided, its velocity stands for v_null. At g = 1 both
    are the conditional field alone, and only that is evaluated. At times above `until` g is 1 where nothing is avoided:
    there guidance buys contrast that no image has, and little control; where that is so for a whole batch, its second
    condition is not evaluated. `rescale` (0 to 1) is how far the power that guidance adds to the clean estimate is
    taken from it again, band by band (see `rescaled`).
    Source: Ho & Salimans 2022 (arXiv 2207.12598), equation 6 with w = g - 1; limited as in Kynkaanniemi et al. 2024
    (arXiv 2404.07724).
    """
    denoiser = codes.generator.denoiser
    code = codes.of(asked)
    other = code if guidance == 1.0 else codes.of(avoided)
    limits = torch.tensor([until if layout is None else 1.0 for layout in avoided])

    @torch.no_grad()
    def field(x: Tensor, t: Tensor) -> Tensor:
        with_ = denoiser.predict(x, t, code)
        limited = t > limits.to(t)
        if guidance == 1.0 or bool(limited.all()):
            return with_
        # A call of its own, not one of twice as many rows: a row then does not depend on whether others are guided.
        without = denoiser.predict(x, t, other)
        drawn = without + guidance * (with_ - without)
        if rescale:
            clean = rescaled(clean_estimate(x, drawn, t), clean_estimate(x, with_, t), rescale)
            drawn = (x - clean) / t[:, None, None, None]
        return torch.where(limited[:, None, None, None], with_, drawn)

    return field


@dataclass(frozen=True, eq=False)
class Wanted:
    """What the guide should see of the C structures that it knows.

    channels: where they are among its K outputs, int64 [C]; maps: float32 [B, C, S, S]; counts: which of them were
    asked, float32 [B, C].
    """

    channels: Tensor
    maps: Tensor
    counts: Tensor


def wanted(layouts: Sequence[Layout], known: tuple[str, ...], size: int) -> Wanted:
    """Return the outlines (not the bare boxes) and absences that these layouts ask for and the guide knows."""
    drawn = [rasterize(layout, size) for layout in layouts]
    outlined = np.stack([d.kinds == AS_MASK for d in drawn])
    absent = np.array([[name in layout.absent for name in STRUCTURE_NAMES] for layout in layouts])
    trained = np.flatnonzero([name in known for name in STRUCTURE_NAMES])
    maps, counts = np.stack([d.maps[trained] for d in drawn]), (outlined | absent)[:, trained]
    return Wanted(torch.from_numpy(trained), torch.from_numpy(maps), torch.from_numpy(counts.astype(np.float32)))


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
        chance = guide(image)[:, aim.channels.to(clean.device)].sigmoid()
        both = (chance * maps).sum((2, 3))
        dice = 1 - (2 * both + 1) / (chance.sum((2, 3)) + maps.sum((2, 3)) + 1)
        loss = (dice * counts).sum(1) / counts.sum(1).clamp(min=1)
        (gradient,) = torch.autograd.grad(loss.sum(), image)
    return gradient, loss.detach()
