"""The layout encoder: a condition becomes tokens for cross-attention and feature maps for a UNet's down blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from fetalflex.model.condition import AS_BOX, AS_MASK, NOT_ASKED, Condition

AGE_CENTRE_WEEKS, AGE_SCALE_WEEKS = 24.0, 8.0
POOL = 4


@dataclass(frozen=True, eq=False)
class LayoutCode:
    """A condition as a UNet takes it.

    tokens: float32 [B, T, D], T = K objects + plane, center, age; token_mask: bool [B, T], false where not asked;
    overall: float32 [B, D], for the UNet's class embedding; stem: float32 [B, C, s, s], to be concatenated to its
    input (C may be 0); residuals: one map per down block, T2I-Adapter convention.
    """

    tokens: Tensor
    token_mask: Tensor
    overall: Tensor
    stem: Tensor
    residuals: tuple[Tensor, ...]
    features: Tensor


class LayoutEncoder(ModelMixin, ConfigMixin):
    """Encode objects (structure, kind, box, shape), plane, center and age.

    `known` counts the structures, planes and centers there are. `levels` holds (channels, scale) of each down block
    that takes a residual: a feature map at side s / scale.
    The residual heads start at zero, so that an untrained encoder leaves a UNet as it is.
    Source: T2I-Adapter (Mou et al. 2023, arXiv 2302.08453) for the residuals; GLIGEN (Li et al. 2023,
    arXiv 2301.07093) for box tokens with Fourier features.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        known: tuple[int, int, int],
        width: int = 128,
        patch: int = 2,
        hidden: int = 48,
        stem_channels: int = 16,
        levels: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__()
        structures, planes, centers = known
        self.trunk = _Trunk(2 * structures * patch**2, hidden)
        self.structure = nn.Embedding(structures, width)
        self.kind = nn.Embedding(3, width)
        self.box = nn.Sequential(nn.Linear(4 * 2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled = nn.Linear(hidden * POOL**2, width)
        self.plane = nn.Embedding(planes, width)
        self.center = nn.Embedding(centers, width)
        self.age = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))
        self.mix = nn.TransformerEncoderLayer(width, max(1, width // 32), 2 * width, 0.0, F.gelu, batch_first=True)
        self.overall = nn.Sequential(nn.LayerNorm(4 * width), nn.Linear(4 * width, width), nn.SiLU())
        self.stem = nn.Conv2d(hidden, stem_channels, 1) if stem_channels else None
        self.adapters = nn.ModuleList(_adapter(hidden, channels) for channels, _ in levels)

    def forward(self, condition: Condition) -> LayoutCode:
        """Return the code of a condition [B]."""
        asked = condition.kinds > NOT_ASKED
        features = self.trunk(self._draw(condition))  # [B, H, s, s]
        objects = self._objects(condition, features)  # [B, K, D]
        extra = torch.stack(
            [self.plane(condition.plane), self.center(condition.center), self._age(condition.age)], 1
        )  # [B, 3, D]
        mask = torch.cat([asked, asked.new_ones(len(condition), 3)], 1)
        tokens = self.mix(torch.cat([objects, extra], 1), src_key_padding_mask=~mask)
        tokens = tokens * mask[..., None]
        count = asked.sum(1, keepdim=True).clamp(min=1)
        overall = self.overall(torch.cat([tokens[:, : asked.shape[1]].sum(1) / count, tokens[:, -3:].flatten(1)], 1))
        residuals = []
        for head, (_, scale) in zip(self.adapters, self.config.levels, strict=True):
            residuals.append(head(F.avg_pool2d(features, scale) if scale > 1 else features))
        stem = features[:, :0] if self.stem is None else self.stem(features)
        return LayoutCode(tokens, mask, overall, stem, tuple(residuals), features)

    def _draw(self, condition: Condition) -> Tensor:
        """Return boxes and masks as separate channels on the network's grid, [B, 2K patch^2, s, s]."""
        kinds = condition.kinds[..., None, None]
        drawn = torch.cat([condition.maps * (kinds == AS_BOX), condition.maps * (kinds == AS_MASK)], 1)
        return F.pixel_unshuffle(drawn, self.config.patch)

    def _objects(self, condition: Condition, features: Tensor) -> Tensor:
        names = self.structure.weight[None].expand(len(condition), -1, -1)
        regions = pool_regions(features, condition.boxes, POOL)  # [B, K, H, POOL, POOL]
        return names + self.kind(condition.kinds) + self.box(fourier(condition.boxes)) + self.pooled(regions.flatten(2))

    def _age(self, weeks: Tensor) -> Tensor:
        known = torch.isfinite(weeks)
        value = (torch.where(known, weeks, AGE_CENTRE_WEEKS) - AGE_CENTRE_WEEKS) / AGE_SCALE_WEEKS
        return self.age(torch.stack([value * known, known.to(value.dtype)], -1))


_FREQUENCIES = 6


def fourier(values: Tensor) -> Tensor:
    """Return sines and cosines of values in [0, 1] at octaves of pi: [..., n] -> [..., n * 2 * 6]."""
    octaves = 2.0 ** torch.arange(_FREQUENCIES, device=values.device, dtype=values.dtype)
    angles = values[..., None] * octaves * math.pi
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


def pool_regions(features: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Sample features [B, C, h, w] on a side x side grid in each box [B, K, 4] (fractions): [B, K, C, side, side].

    Source: RoIAlign (He et al. 2017, Mask R-CNN, section 3), one bilinear sample per bin.
    """
    batch, count = boxes.shape[:2]
    steps = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side
    x = boxes[..., 0:1] + (boxes[..., 2:3] - boxes[..., 0:1]) * steps  # [B, K, side]
    y = boxes[..., 1:2] + (boxes[..., 3:4] - boxes[..., 1:2]) * steps
    grid = torch.stack([x[:, :, None].expand(-1, -1, side, -1), y[..., None].expand(-1, -1, -1, side)], -1)
    grid = (2 * grid - 1).reshape(batch, count * side, side, 2).to(features.dtype)
    sampled = F.grid_sample(features, grid, align_corners=False, padding_mode="border")
    return sampled.reshape(batch, -1, count, side, side).transpose(1, 2)


def adapter_levels(config: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return (channels, scale) of the residual that each down block of a UNet2DConditionModel takes.

    A block with cross-attention adds the residual before it shrinks the map, a plain block after; the last never
    shrinks.
    """
    channels, kinds = config["block_out_channels"], config["down_block_types"]
    levels = []
    for index, (width, kind) in enumerate(zip(channels, kinds, strict=True)):
        shrunk = not kind.startswith("CrossAttn") and index < len(channels) - 1
        levels.append((int(width), 2 ** (index + int(shrunk))))
    return tuple(levels)


class _Trunk(nn.Module):
    """Residual convolutions with growing dilation: inside a large outline every pixel still sees its edge."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, hidden, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, hidden), nn.SiLU(), nn.Conv2d(hidden, hidden, 3, padding=d, dilation=d),
                nn.SiLU(), nn.Conv2d(hidden, hidden, 1),
            )
            for d in (1, 2, 4)
        )  # fmt: skip

    def forward(self, drawn: Tensor) -> Tensor:
        features = self.enter(drawn)
        for block in self.blocks:
            features = features + block(features)
        return features


def _adapter(hidden: int, channels: int) -> nn.Sequential:
    last = nn.Conv2d(channels, channels, 1)
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Conv2d(hidden, channels, 1), nn.SiLU(), last)
