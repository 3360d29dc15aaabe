"""Fluid is dark, however much of it there is: the clean estimate of an edited, fluid-filled object is darkened.

The generator has seen fluid in narrow spaces alone. Asked for a wide one, it fills it with what it knows: patchy grey,
and a lattice of the period of its patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_dilation
from torch import Tensor

from fetalflex.anatomy.layout import Layout, fluid_spaces
from fetalflex.diffusion.checkerboard import plain
from fetalflex.diffusion.objective import Velocity, clean_estimate

EARLY = 0.95  # at earlier times the clean estimate shows no surroundings yet
PLAIN = 0.2  # from here on no pattern of the patches' period is left: earlier, plain is washed out
_LEVEL, _SURROUNDINGS, _WINDOW, _SOON = 0.02, 4, 5, 1e-3
_BLACK = -1.0  # no echo: outside of the sector, or cut off by the device


def fluid_regions(layouts: Sequence[Layout], size: int) -> Tensor:
    """Return where edited objects that hold fluid lie: float32 [B, 1, S, S], 0 or 1.

    What lies beside another of these structures is left out: there is the wall between two spaces, a septum of the
    heart say.
    """
    regions = np.zeros((len(layouts), 1, size, size), np.float32)
    for region, layout in zip(regions, layouts, strict=True):
        if spaces := fluid_spaces(layout, size):
            rims = [binary_dilation(space, np.ones((3, 3))) & ~space for space in spaces.values()]
            region[0] = np.any(list(spaces.values()), axis=0) & ~np.any(rims, axis=0)
    return torch.from_numpy(regions)


def anechoic(field: Velocity, regions: Tensor, strength: float, patch: int = 1) -> Velocity:
    """Return the field whose clean estimate is darkened in these regions [B, 1, S, S], without a further evaluation.

    x_0 = x - t v; where its local mean inside is brighter than the darkest fiftieth of the echoes around the region,
    `strength` times the difference is taken off from time `EARLY` on, to the last step (a denoiser that takes it alone
    fills the region again), from `PLAIN` on so is what repeats with the denoiser's `patch` (pixels; 1: nothing), and
    v = (x - x_0) / t again. Outside of the regions and of these times v is untouched, to the bit. An image depends on
    its own region alone.
    Source: as `guidance.steered` (arXiv 2311.16424, algorithm 1), with the echogenicity that the structure demands in
    place of a network's gradient.
    """
    if not strength or not bool(regions.any()):
        return field
    inner = F.avg_pool2d(regions, 3, 1, 1) * regions  # softer at the border: walls stay the denoiser's
    near = _surroundings(regions)

    def darkened(x: Tensor, t: Tensor) -> Tensor:
        v = field(x, t)
        clean = clean_estimate(x, v, t)
        dark, even = (when[:, None, None, None] for when in (t <= EARLY, (t <= PLAIN) & (patch > 1)))
        woven = torch.where(even, clean - plain(clean, patch), 0.0)
        mean = F.avg_pool2d(clean - woven, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)
        excess = (mean - _levels(clean, near)).clamp(min=0)
        off = torch.where(dark, excess, 0.0) + woven
        moved = clean - strength * inner.to(x) * off
        touched = (inner.to(x.device) > 0) & (dark | even)
        return torch.where(touched, (x - moved) / t[:, None, None, None].clamp(min=_SOON), v)

    return darkened


def _surroundings(regions: Tensor) -> Tensor:
    """Return, bool [B, 1, S, S], each region's bounding box grown by its own size on every side, without the region."""
    result = torch.zeros_like(regions, dtype=torch.bool)
    for found, region in zip(result[:, 0], regions[:, 0], strict=True):
        rows, columns = region.any(1).nonzero()[:, 0], region.any(0).nonzero()[:, 0]
        if len(rows):
            sides = [(int(line[0]), int(line[-1]) + 1) for line in (rows, columns)]
            reach = max(_SURROUNDINGS, *(high - low for low, high in sides))
            (top, bottom), (left, right) = ((max(0, low - reach), high + reach) for low, high in sides)
            found[top:bottom, left:right] = True
    return result & (regions == 0)


def _levels(clean: Tensor, near: Tensor) -> Tensor:
    """Return each image's grey of fluid, [B, 1, 1, 1]: the darkest fiftieth of the echoes around its region.

    Black is no echo: fluid drawn as black as what lies outside of the sector looks cut out.
    """
    found = []
    for image, where in zip(clean, near.to(clean.device), strict=True):
        echoes = image[where & (image > _BLACK)].float()
        found.append(torch.quantile(echoes, _LEVEL) if len(echoes) else image.amin())
    return torch.stack(found)[:, None, None, None]
