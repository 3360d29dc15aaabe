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
from fetalflex.model.sectors import Masks, fill, outline, overlaps

LATE = 0.6
"""At earlier times the clean estimate does not show yet which sector it will have."""
COVERED = 0.99
"""How much of what is asked must lie inside of a sector: anatomy counts more than the field of view."""
_BLACK, _VISIBLE, _SOON = -1.0, 8, 1e-3
_COMPARED = 64


def fitting_sectors(sectors: Masks, layout: Layout) -> Masks:
    """Return those of N sectors, bool [N, S, S], that hold what a layout asks for; none where none does."""
    size = sectors.shape[1]
    asked = np.zeros((size, size), bool)
    for item in layout.objects:
        asked |= item.draw(layout.extent, size)
    asked = _thinned(asked)
    return sectors[(_thinned(sectors) & asked).sum((1, 2)) >= COVERED * asked.sum()]


def in_sector(field: Velocity, sectors: Sequence[Masks]) -> Velocity:
    """Return the field whose clean estimates, from time `LATE` on, are black outside of one of their sectors.

    sectors: for each image bool [N, S, S], of which the one counts that overlaps most with what the estimate shows;
    none leaves the image as it is, to the bit. x_0 = x - t v, and v = (x - x_0) / t again, as in `guidance.steered`.
    """
    if not any(len(fitting) for fitting in sectors):
        return field
    known = [np.stack([r.ravel() for r in _thinned(s)]).astype(np.float32) if len(s) else None for s in sectors]

    def kept(x: Tensor, t: Tensor) -> Tensor:
        v = field(x, t)
        late = (t <= LATE).tolist()
        if not any(late):
            return v
        outside = torch.zeros(x.shape, dtype=torch.bool)
        for i, pixels in enumerate(to_pixels(clean_estimate(x, v, t))):
            fitting = known[i]
            shown = outline(pixels, _VISIBLE) if late[i] and fitting is not None else None
            if shown and fitting is not None:
                own = _thinned(fill([shown], pixels.shape[0])[0]).ravel().astype(np.float32)
                nearest = int(overlaps(own[None], fitting)[0].argmax())
                outside[i, 0] = torch.from_numpy(~sectors[i][nearest])
        away = (x - _BLACK) / t[:, None, None, None].clamp(min=_SOON)
        return torch.where(outside.to(x.device), away, v)

    return kept


def _thinned(regions: Masks) -> Masks:
    """Return regions [..., S, S] at every so many pixels: sectors are compared at `_COMPARED` or a little more."""
    step = max(1, regions.shape[-1] // _COMPARED)
    return regions[..., ::step, ::step]
