"""Nothing is seen outside of the sector: late clean estimates are kept inside the nearest sector of their center.

The field of view is the device's geometry, no anatomy: its edge is sharp, and outside of it is no echo at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fetalflex.anatomy.layout import Layout
from fetalflex.diffusion.objective import Velocity, clean_estimate
from fetalflex.model.batches import to_pixels
from fetalflex.model.sectors import Masks, Sectors, fill, outline, overlap

LATE = 0.6
"""At earlier times the clean estimate does not show yet which sector it will have."""
COVERED = 0.99
"""How much of what is asked must lie inside of a sector: anatomy counts more than the field of view."""
_BLACK, _VISIBLE, _SOON = -1.0, 8, 1e-3


def fitting_sectors(sectors: Sectors, layout: Layout, size: int) -> Masks:
    """Return those of a layout's center that hold what it asks for, bool [N, size, size]; none where none does."""
    found = sectors.drawn(layout.center, size)
    asked = np.zeros((size, size), bool)
    for item in layout.objects:
        asked |= item.draw(layout.extent, size)
    return found[(found & asked).sum((1, 2)) >= COVERED * asked.sum()]


def in_sector(field: Velocity, sectors: Sequence[Masks]) -> Velocity:
    """Return the field whose clean estimates, from time `LATE` on, are black outside of one of their sectors.

    sectors: for each image bool [N, S, S], of which the one counts that overlaps most with what the estimate shows;
    none leaves the image as it is, to the bit. x_0 = x - t v, and v = (x - x_0) / t again, as in `guidance.steered`.
    """
    if not any(len(fitting) for fitting in sectors):
        return field

    def kept(x: Tensor, t: Tensor) -> Tensor:
        v = field(x, t)
        outside = torch.zeros(x.shape, dtype=torch.bool)
        for i, (pixels, fitting) in enumerate(zip(to_pixels(clean_estimate(x, v, t)), sectors, strict=True)):
            shown = outline(pixels, _VISIBLE) if len(fitting) and float(t[i]) <= LATE else None
            if shown:
                own = fill([shown], pixels.shape[0])[0]
                outside[i, 0] = torch.from_numpy(~fitting[overlap(own, fitting).argmax()])
        away = (x - _BLACK) / t[:, None, None, None].clamp(min=_SOON)
        return torch.where(outside.to(x.device), away, v)

    return kept
