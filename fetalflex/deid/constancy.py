"""Ink of a clip by its constancy: what is drawn stays as it is while tissue and its speckle change around it.

Pixels that keep their level over sampled frames are counted in small windows, and so are those that nearly do. Of
noise, however weak, more pixels nearly keep their level than keep it; of drawn strokes it is the other way round.
Where nothing moves, nothing is told: such clips are looked at as stills.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from fetalflex.deid.lines import Box
from fetalflex.deid.overlay import Floats, Grey, Mask, boxes_around

FEWEST_FRAMES = 3
# In all frames within a tolerance, or in so many frames exactly: text may come and go. Each where the surroundings
# change by at least so many grey levels.
EXACT, COMPRESSED, FLEETING = (1, 8.0), (6, 30.0), (0, 16.0)
LEVELS = (4, 252)
SHELL = 2.5  # times the tolerance and one more: so far is nearly constant
AROUND_PX = 41  # what moves around
LINE_PX = (9, 33)  # rows, columns: some letters
FEWEST_PX = 14  # constant ones in such a window, beyond those that nearly are
SOLID_PX, SOLID = 21, 0.75  # of a square of that side: a frozen part of the screen is no stroke


def find_constant_ink(frames: Sequence[Grey]) -> list[Box]:
    """Return rectangles (x0, y0, x1, y1; exclusive) around strokes that stay while their surroundings change.

    frames: uint8 [H, W], of one clip, in any order.
    """
    if len(frames) < FEWEST_FRAMES:
        return []
    found = np.zeros(frames[0].shape, dtype=bool)
    for test in _tests(np.sort(np.stack(frames), axis=0)):
        found |= _strokes(*test)
    return boxes_around(found, FEWEST_PX)


def _tests(levels: npt.NDArray[np.uint8]) -> Iterator[tuple[Mask, Mask, Mask]]:
    """Yield, by each rule: where sorted levels [frames, H, W] are constant, where nearly, where that tells anything."""
    spread = np.asarray(cv2.subtract(levels[-1], levels[0]), dtype=np.uint8)
    moves = np.asarray(cv2.blur(spread.astype(np.float32), (AROUND_PX, AROUND_PX)), dtype=np.float32)
    # Black and saturated echoes stay as they are, too.
    moves[(levels[0] <= LEVELS[0]) | (levels[-1] >= LEVELS[1])] = 0
    yield from (_within(spread, moves, rule) for rule in (EXACT, COMPRESSED))
    if len(levels) > FEWEST_FRAMES:
        steps = [cv2.subtract(b, a) for a, b in zip(levels, levels[FEWEST_FRAMES - 1 :], strict=False)]
        yield _within(np.minimum.reduce([np.asarray(s, dtype=np.uint8) for s in steps]), moves, FLEETING)


def _within(spread: Grey, moves: Floats, rule: tuple[int, float]) -> tuple[Mask, Mask, Mask]:
    tolerance, least = rule
    constant = spread <= tolerance
    return constant, (spread <= SHELL * tolerance + 1) & ~constant, moves >= least


def _strokes(constant: Mask, nearly: Mask, told: Mask) -> Mask:
    """Return constant pixels in windows where they outnumber nearly constant ones, and are no area of their own."""
    solid = (cv2.blur(constant.astype(np.float32), (SOLID_PX, SOLID_PX)) > SOLID).view(np.uint8)
    strokes = constant & told & (cv2.dilate(solid, np.ones((SOLID_PX, SOLID_PX), np.uint8)) == 0)
    if np.count_nonzero(strokes) < FEWEST_PX:
        return np.zeros_like(constant)
    more = strokes.astype(np.float32) - (nearly & told)
    dense = cv2.boxFilter(more, -1, LINE_PX[::-1], normalize=False, borderType=cv2.BORDER_CONSTANT) >= FEWEST_PX
    return np.asarray(strokes & (cv2.dilate(dense.view(np.uint8), np.ones(LINE_PX, np.uint8)) > 0))
