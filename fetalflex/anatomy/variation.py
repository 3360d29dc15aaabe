"""New normal layouts from given ones: one random similarity transform of the whole anatomy.

All structures move together, so that their relations (and with them the plane) stay those of a real case.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.anatomy.layout import Box, Layout, LayoutObject, Mask, mask_box

Matrix = npt.NDArray[np.float64]
_MAX_TURN_DEG = 180.0


def vary_layout(layout: Layout, amount: float, rng: np.random.Generator, *, scaled: bool = True) -> Layout:
    """Return `layout` turned, scaled, shifted and perhaps mirrored left to right, as one piece.

    `amount`: standard deviation of the scale (as a fraction); half of it is that of the shift (as a fraction of the
    side); the turn's is `amount` x 180 degrees, so 0.06 turns by about 11 degrees. Amount 0 gives the layout itself.
    Not `scaled`, sizes stay: of a layout whose age says how large it is.
    Where an object would leave the frame or be lost, all move half as far, and else are only mirrored. Depth is never
    mirrored: the sector is narrow above and wide below, and shadows fall downwards.
    """
    if amount == 0:
        return layout
    turn = np.deg2rad(rng.normal(0, amount * _MAX_TURN_DEG))
    scale = float(np.clip(rng.normal(1, amount), 0.7, 1.3)) if scaled else 1.0
    shift = rng.normal(0, amount / 2, 2)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([mirror, 1.0])
    for strength in (1.0, 0.5, 0.0):  # a head near the border may not turn as far
        forward = matrix if strength == 1.0 else strength * matrix + (1 - strength) * np.diag([mirror, 1.0])
        moved = [_move(o, layout.extent, forward, strength * shift) for o in layout.objects]
        found = [o for o in moved if o is not None]
        if len(found) == len(moved):
            return replace(layout, objects=tuple(found))
    return layout


def _move(item: LayoutObject, extent: float, matrix: Matrix, shift: Matrix) -> LayoutObject | None:
    """Return the moved object, or None where it would be cut by the frame or fall between the pixels."""
    if item.mask is None and item.shape is not None:
        middle = np.full(2, extent / 2)
        shape = item.shape.moved(matrix, middle - matrix @ middle + shift * extent)
        box = shape.bounds()
        return replace(item, box=box, shape=shape) if min(box) >= 0 and max(box) <= extent else None
    if item.mask is None:
        box = _move_box(item.box, extent, matrix, shift)
        inside = min(box) >= 0 and max(box) <= extent
        return replace(item, box=box) if inside else None
    mask = _move_mask(item.mask, matrix, shift)
    touched = item.mask[0].any() or item.mask[-1].any() or item.mask[:, 0].any() or item.mask[:, -1].any()
    touches = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    moved_box = mask_box(mask, extent)
    if moved_box is None or (touches and not touched):
        return None
    return replace(item, mask=mask, box=moved_box, shape=None)


def _move_mask(mask: Mask, matrix: Matrix, shift: Matrix) -> Mask:
    """Transform about the canvas centre; x right, y down."""
    size = mask.shape[0]
    centre = np.array([size - 1, size - 1]) / 2
    inverse = np.linalg.inv(matrix)[::-1, ::-1]  # ndimage counts (y, x)
    offset = centre - inverse @ (centre + shift[::-1] * size)
    moved = ndimage.affine_transform(mask.astype(np.float32), inverse, offset, order=1)
    result: Mask = moved > 0.5
    return result


def _move_box(box: Box, extent: float, matrix: Matrix, shift: Matrix) -> Box:
    """Return the box of the moved ellipse that fills `box`.

    The box of the turned box would grow at every turn; sides that do not turn would let a midline structure leave a
    long head.
    """
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2 - extent / 2
    x, y = matrix @ centre + extent / 2 + shift * extent
    w, h = np.sqrt(matrix**2 @ np.array([box[2] - box[0], box[3] - box[1]]) ** 2) / 2
    return (float(x - w), float(y - h), float(x + w), float(y + h))
