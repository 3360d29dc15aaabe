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
from fetalflex.model.sectors import COMPARED, Outline, fill, outline, overlaps

LATE = 0.6
"""At earlier times the clean estimate does not show yet which sector it will have."""
COVERED = 0.99
"""How much of what is asked must lie inside of a sector: anatomy counts more than the field of view."""
_BLACK, _VISIBLE, _SOON = -1.0, 8, 1e-3


def fitting_sectors(sectors: Sequence[Outline], layout: Layout) -> list[Outline]:
    """Return those sectors that hold what a layout asks for; none where none does."""
    asked = np.zeros((COMPARED, COMPARED), bool)
    for item in layout.objects:
        asked |= item.draw(layout.extent, COMPARED)
    held = (fill(sectors, COMPARED) & asked).sum((1, 2)) >= COVERED * asked.sum()
    return [sector for sector, holds in zip(sectors, held, strict=True) if holds]


def in_sector(field: Velocity, sectors: Sequence[Sequence[Outline]]) -> Velocity:
    """Return the field whose clean estimates, from time `LATE` on, are black outside of one of their sectors.

    sectors: for each image those that it may have, of which the one counts that overlaps most with what the estimate
    shows; none leaves the image as it is, to the bit. x_0 = x - t v, and v = (x - x_0) / t again, as in
    `guidance.steered`.
    """
    if not any(sectors):
        return field
    known = [fill(fitting, COMPARED) for fitting in sectors]

    def kept(x: Tensor, t: Tensor) -> Tensor:
        v = field(x, t)
        late = (t <= LATE).tolist()
        if not any(late):
            return v
        outside = torch.zeros(x.shape, dtype=torch.bool)
        for i, pixels in enumerate(to_pixels(clean_estimate(x, v, t))):
            shown = outline(pixels, _VISIBLE) if late[i] and sectors[i] else None
            if shown:
                nearest = sectors[i][int(overlaps(fill([shown], COMPARED), known[i])[0].argmax())]
                outside[i, 0] = torch.from_numpy(~fill([nearest], pixels.shape[0])[0])
        away = (x - _BLACK) / t[:, None, None, None].clamp(min=_SOON)
        return torch.where(outside.to(x.device), away, v)

    return kept
