"""Are two frames one picture? Aligned by scale and shift, then compared in their fine detail.

Different heads look alike when blurred: the same ring in the same sector. Speckle and small structures do not: they
are the fingerprint. So frames are aligned coarse to fine, whatever was cut off or stretched, and the correlation
counts what is left when the local mean and contrast (gain, depth compensation, a grey map) are taken off.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

SIDE = 96
_ROUGH, _GLANCE = 24, 48  # sides of the first alignment and of the first look
# Aligned at this side, in so many Gauss-Newton steps, then looked at in detail at that side; a pair that correlates
# less is given up: in the calibration (docs/results.md) no two forms of one picture did.
LEVELS = ((_ROUGH, 8, _GLANCE, 0.3), (48, 5, _GLANCE, 0.4), (96, 3, 96, -1.0))
_PIXELS = 2**16  # of the pairs aligned at once: few calls, and what they need stays near the processor
LEAST_OVERLAP = 0.5  # of the frame's area
SMALLEST_SCALE, LARGEST_SCALE = 0.65, 1.55
DETAIL = 2.0  # pixels (standard deviation) of the window that local mean and contrast are taken over
FAINT = 3.0  # grey levels of contrast below which there is nothing to compare
OUTLIER = 3.0  # local contrasts: a caliper's cross must not weigh more than the tissue


@dataclass(frozen=True, eq=False)
class Likeness:
    """For B pairs: correlation of the detail float32 [B] (-1 to 1) and the share of the area that overlaps [B]."""

    correlation: Floats
    overlap: Floats


class Views:
    """Thumbnails uint8 [N, 96, 96], and of each what the first, rough look at any pair needs, made once."""

    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def reduced(self, side: int, which: Array) -> Floats:
        """Return thumbnails at `side`."""
        return self._half[which] if side == _GLANCE else _reduced(self.images[which], side)

    def smoothed(self, side: int, which: Array) -> Floats:
        """Return thumbnails at `side`, smoothed by a pixel and with mean 0 and deviation 1."""
        return self._rough[which] if side == _ROUGH else _smoothed(self.reduced(side, which))

    def detail(self, side: int, which: Array) -> Floats:
        """Return the thumbnails' detail at `side`."""
        return self._glance[which] if side == _GLANCE else _detail(self.reduced(side, which))

    @cached_property
    def _half(self) -> Floats:
        return _reduced(self.images, _GLANCE)

    @cached_property
    def _rough(self) -> Floats:
        return _smoothed(_reduced(self.images, _ROUGH))

    @cached_property
    def _glance(self) -> Floats:
        return _detail(self._half)


def thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a frame [H, W] as uint8 [96, 96], area-averaged, stretched where it is not square."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))


def compare(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> Likeness:
    """Compare thumbnails uint8 [B, 96, 96] pair by pair: `left` is moved onto `right`."""
    here = np.arange(len(left))
    return compare_views((Views(left), Views(right)), here, here)


def compare_views(views: tuple[Views, Views], left: Array, right: Array) -> Likeness:
    """Compare views by position, int [B] each: view left[k] of the first is moved onto view right[k] of the second.

    Pairs that do not look alike after a rough alignment keep the correlation of that glance. A pair whose alignment
    runs away (another scale than a crop explains, hardly any overlap) has correlation 0.
    Source: Lucas & Kanade 1981, with the gain and offset of Baker & Matthews 2004 (IJCV 56), section 4.
    """
    moves = np.tile(np.array([1, 0, 1, 0], np.float32), (len(left), 1))  # x scale, x shift, y scale, y shift
    found = Likeness(np.zeros(len(left), np.float32), np.zeros(len(left), np.float32))
    here = np.arange(len(left))
    for side, steps, glance, least in LEVELS:
        together = _PIXELS // side**2
        for start in range(0, len(here), together):
            part = here[start : start + together]
            a, b = views[0].smoothed(side, left[part]), views[1].smoothed(side, right[part])
            for _ in range(steps):
                moves[part] += _step(a, b, moves[part])
            seen = _judge(views[0].reduced(glance, left[part]), views[1].detail(glance, right[part]), moves[part])
            found.correlation[part], found.overlap[part] = seen.correlation, seen.overlap
        here = here[found.correlation[here] > least]
    return found


def _judge(left: Floats, detail: Floats, moves: Floats) -> Likeness:
    """Return how alike reduced pictures, once moved, and the detail of others are."""
    side = left.shape[1]
    rows, columns = _hats(moves[:, 2:], side), _hats(moves[:, :2], side)
    inside = _inside(rows, columns)
    overlap = inside.mean((1, 2), dtype=np.float32)
    scales = moves[:, ::2]
    sane = ((scales > SMALLEST_SCALE) & (scales < LARGEST_SCALE)).all(1) & (overlap > LEAST_OVERLAP)
    moved: Array = rows @ left @ columns.transpose(0, 2, 1)
    correlation = _correlation(_detail(moved), detail, inside)
    return Likeness(np.where(sane, correlation, 0).astype(np.float32), overlap)


def _reduced(images: npt.NDArray[np.uint8], side: int) -> Floats:
    """Return thumbnails at `side`, averaged over blocks."""
    step = SIDE // side
    total = np.zeros((len(images), side, side), np.uint16)
    for y in range(step):
        for x in range(step):
            total += images[:, y::step, x::step]
    return total.astype(np.float32) / np.float32(step * step)


def _smoothed(reduced: Floats) -> Floats:
    """Return reduced thumbnails smoothed by a pixel and with mean 0 and deviation 1."""
    smooth = _gaussian(reduced, 1.0, 4.0)
    centred = smooth - smooth.mean((1, 2), keepdims=True)
    scaled: Floats = centred / np.maximum(centred.std((1, 2), keepdims=True), 1e-3)
    return scaled


def _gaussian(images: Floats, sigma: float, truncate: float) -> Floats:
    """Return images [B, S, S] smoothed one by one: scipy's `gaussian_filter` in a fraction of its time."""
    size = 2 * int(truncate * sigma + 0.5) + 1
    result = np.empty_like(images)
    for image, smooth in zip(images, result, strict=True):
        cv2.GaussianBlur(image, (size, size), sigma, dst=smooth, borderType=cv2.BORDER_REFLECT)
    return result


def _hats(line: Floats, side: int) -> Floats:
    """Return [B, side, side]: row i takes the pixel at scale * i + shift (shift in frames) by linear interpolation.

    Scale and shift act on each axis alone, so that a picture is moved by two matrix products.
    """
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    place = (line[:, :1] * grid + line[:, 1:] + 0.5) * side - 0.5  # [B, side]
    hats: Floats = np.maximum(0, 1 - np.abs(place[:, :, None] - np.arange(side, dtype=np.float32)))
    return hats


def _inside(rows: Floats, columns: Floats) -> npt.NDArray[np.bool_]:
    """Where a moved picture comes wholly from inside the picture: bool [B, side, side]."""
    inside: npt.NDArray[np.bool_] = (rows.sum(2) > 0.999)[:, :, None] & (columns.sum(2) > 0.999)[:, None, :]
    return inside


def _step(a: Floats, b: Floats, moves: Floats) -> Floats:
    """Return the change of the moves [B, 4] that one Gauss-Newton step of gain * moved(a) + offset = b asks for."""
    side = a.shape[1]
    rows, columns = _hats(moves[:, 2:], side), _hats(moves[:, :2], side)
    moved = rows @ a @ columns.transpose(0, 2, 1)
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    terms = np.empty((len(a), 6, side, side), np.float32)
    _slope(moved, terms[:, 1])
    _slope(moved.transpose(0, 2, 1), terms[:, 3].transpose(0, 2, 1))
    terms[:, 1] *= side / moves[:, 0, None, None]
    terms[:, 3] *= side / moves[:, 2, None, None]
    np.multiply(terms[:, 1], grid, out=terms[:, 0])
    np.multiply(terms[:, 3], grid[:, None], out=terms[:, 2])
    terms[:, 4], terms[:, 5] = moved, 1
    terms *= _inside(rows, columns)[:, None]
    flat = terms.reshape(len(a), 6, -1)
    normal = flat @ flat.transpose(0, 2, 1) + 1e-2 * side * np.eye(6, dtype=np.float32)
    right = flat @ (b - moved).reshape(len(a), -1, 1)
    change: Floats = np.linalg.solve(normal, right)[:, :4, 0]
    # Gain multiplies the slopes, too; at the steps' end it is near 1, on the way a bounded step is safe.
    return change.clip(-0.05, 0.05)


def _slope(images: Array, out: Floats) -> None:
    """Write the slope along the last axis of [B, S, S], as `np.gradient` has it, to `out`."""
    np.subtract(images[..., 2:], images[..., :-2], out=out[..., 1:-1])
    out[..., 1:-1] *= 0.5
    np.subtract(images[..., 1], images[..., 0], out=out[..., 0])
    np.subtract(images[..., -1], images[..., -2], out=out[..., -1])


def _detail(images: Floats) -> Floats:
    """Return what is left when local mean and contrast are taken off, outliers cut; 0 where there is no contrast."""
    centred = images - _gaussian(images, DETAIL, 3)
    contrast = np.sqrt(_gaussian(centred**2, 2 * DETAIL, 3))
    detail: Floats = (centred / (contrast + FAINT)).clip(-OUTLIER, OUTLIER)
    return detail


def _correlation(a: Floats, b: Floats, inside: npt.NDArray[np.bool_]) -> Floats:
    count = np.maximum(inside.sum((1, 2)), 1)[:, None, None]
    a, b = ((x - (x * inside).sum((1, 2), keepdims=True) / count) * inside for x in (a, b))
    scale = np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)))
    result: Floats = (a * b).sum((1, 2)) / np.maximum(scale, 1e-6)
    return result
