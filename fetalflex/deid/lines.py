"""Rectangles around lines of text: followed to both sides, given margins, joined where a line was found in pieces."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]

FOLLOW = 0.25  # a line goes on where it is sharper than usual by that share of what it is where it was found
FOLLOW_SHARP = 1.8  # only a line that is so many times as sharp as usual is followed
FOLLOW_BESIDE = 1.2  # and is so many times as sharp as what lies above and below: tissue is as sharp there
FOLLOW_MOST = 12  # steps to each side, each as long as the line is high
UPRIGHT = 1.5  # times as high as wide: a line that reads upwards or downwards
PAD = (0.5, 0.7)  # of a found line's height, above and below, left and right
PAD_PX, DRAWN_PAD = 4, 0.35
# Of a line so many times as long as high the ends are less certain than the rest; margins there are so long at most.
LONG, LONG_PAD, LONG_PAD_PX, LONG_MOST_PX = 4, 2.5, 8, 40
BRIDGE_PX = 6  # beyond the ends of a line found in pieces
LINE, REACH = 2.0, 3  # times as long as high is a line; so many heights away may be its next piece
ALIKE = 2.0  # times as high: pieces of one line are not


def pad(box: Box, shape: tuple[int, ...]) -> Box:
    """Return a line's rectangle with margins for what a detector does not see of its letters."""
    x0, y0, x1, y1 = box
    wide, high = x1 - x0, y1 - y0
    side, up = (round(share * min(wide, high)) + PAD_PX for share in PAD[::-1])
    far = max(side, min(LONG_MOST_PX, round(LONG_PAD * min(wide, high)) + LONG_PAD_PX))
    if wide >= LONG * high:
        side = far
    elif high >= LONG * wide:
        side, up = up, far
    return max(0, x0 - side), max(0, y0 - up), min(shape[1], x1 + side), min(shape[0], y1 + up)


def pad_drawn(boxes: Iterable[Box], shape: tuple[int, ...]) -> tuple[Box, ...]:
    """Return rectangles around ink whose pixels are known with a narrow margin: smoothed edges, thin strokes."""
    height, width = shape[:2]
    padded = []
    for x0, y0, x1, y1 in boxes:
        margin = PAD_PX + round(DRAWN_PAD * min(x1 - x0, y1 - y0))
        padded.append((max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)))
    return tuple(padded)


def bridge(lines: Sequence[Box], shape: tuple[int, ...]) -> tuple[Box, ...]:
    """Return a rectangle over any two pieces of one line with less than their height between them, a little longer.

    It is as high as both together: one of them may have missed the tops of the letters.
    """
    bridges = []
    for number, a in enumerate(lines):
        for b in lines[number + 1 :]:
            heights = sorted((a[3] - a[1], b[3] - b[1]))
            common = min(a[3], b[3]) - max(a[1], b[1])
            gap = max(a[0], b[0]) - min(a[2], b[2])
            if 2 * common > heights[0] > gap and heights[1] <= ALIKE * heights[0]:
                left, right = max(0, min(a[0], b[0]) - BRIDGE_PX), min(shape[1], max(a[2], b[2]) + BRIDGE_PX)
                bridges.append((left, min(a[1], b[1]), right, max(a[3], b[3])))
    return tuple(bridges)


def is_alone(box: Box, others: Iterable[Box]) -> bool:
    """Whether a rectangle is no line by its shape, nor goes on in another piece to its left or right."""
    x0, y0, x1, y1 = box
    wide, high = x1 - x0, y1 - y0
    if max(wide, high) >= LINE * min(wide, high):
        return False
    for a, b, c, d in others:
        common, gap = min(y1, d) - max(y0, b), max(x0, a) - min(x1, c)
        is_piece = gap > 0 or c - a >= LINE * (d - b)  # what overlaps may be the same blob, found twice
        if is_piece and 2 * common > min(high, d - b) and gap < REACH * high:
            return False
    return True


def follow(box: Box, summed: npt.NDArray[np.float64]) -> Box:
    """Return a line's rectangle, longer where it goes on, along its longer side.

    `summed` is the integral of the picture's sharpness, without sign. A line goes on where a strip beside it is
    nearly as sharp, and sharper than what lies above and below the strip.
    """
    x0, y0, x1, y1 = box
    if y1 - y0 <= UPRIGHT * (x1 - x0):
        return _follow_level(box, summed)
    a, b, c, d = _follow_level((y0, x0, y1, x1), summed.T)
    return b, a, d, c


def _follow_level(box: Box, summed: npt.NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = box
    step, width = y1 - y0, summed.shape[1] - 1
    column = summed[y1] - summed[y0]
    above, below = max(0, y0 - step), min(summed.shape[0] - 1, y1 + step)
    beside = (summed[y0] - summed[above] + summed[below] - summed[y1]) * step / max(1, y0 - above + below - y1)
    usual = float(summed[-1, -1]) / max(1, (summed.shape[0] - 1) * width)
    sharp = float(column[x1] - column[x0]) / (step * (x1 - x0))
    if sharp < FOLLOW_SHARP * usual:
        return box
    least = usual + FOLLOW * (sharp - usual)
    for _ in range(FOLLOW_MOST):
        left, right = max(0, x0 - step), min(width, x1 + step)
        wider_left, wider_right = (
            b > a and column[b] - column[a] > max(least * step * (b - a), FOLLOW_BESIDE * (beside[b] - beside[a]))
            for a, b in ((left, x0), (x1, right))
        )
        if not (wider_left or wider_right):
            break
        x0, x1 = left if wider_left else x0, right if wider_right else x1
    return x0, y0, x1, y1
