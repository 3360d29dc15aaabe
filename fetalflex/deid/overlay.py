"""Ink by its evenness: letters drawn in one grey level, over speckle of any brightness, however rough.

Speckle hardly repeats a level along a line with an edge beside it, and never the same level many times on a small
area. Drawn strokes do. This needs pixels as the device stored them: compression with loss destroys it.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]

RUN_PX = 4  # of equal level along a stroke
EDGE = 12  # grey levels from the stroke to both or one of its sides
LEVELS = (25, 250)  # darker is background; brighter is saturated echo, too
WINDOW_PX = (16, 64)  # rows, columns: some letters
FEWEST_PX = 24  # of one level in runs, in a window
SMOOTH = 0.01  # of the picture in runs: enlarged or smoothed tissue has them everywhere, and they tell nothing
STANDS_OUT, NEIGHBOURS = 3, 9  # a drawn level is so many times as frequent in runs as the levels around it
JOIN_PX = (9, 25)  # rows, columns: letters and words of a line


def find_even_ink(grey: Grey) -> list[Box]:
    """Return rectangles (x0, y0, x1, y1; exclusive) around letters of one level in a picture [H, W]."""
    runs = _runs(grey)
    if runs.mean() > SMOOTH:
        return []
    counts = np.bincount(grey[runs], minlength=256)
    boxes: list[Box] = []
    around = ndimage.median_filter(counts, NEIGHBOURS, mode="nearest")
    for level in np.nonzero(counts >= FEWEST_PX + STANDS_OUT * around)[0]:
        ink = (runs & (grey == level)).astype(np.uint8)
        dense = cv2.boxFilter(ink, cv2.CV_32F, WINDOW_PX[::-1], normalize=False, borderType=cv2.BORDER_CONSTANT)
        if dense.max() < FEWEST_PX:
            continue
        # Around the windows that hold enough: all ink of that level which belongs to the same line.
        near = cv2.dilate((dense >= FEWEST_PX).astype(np.uint8), np.ones(WINDOW_PX, np.uint8))
        joined = cv2.dilate(ink & near, np.ones(JOIN_PX, np.uint8))
        count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
        for x, y, w, h, _ in stats[1:count]:
            rows, columns = JOIN_PX[0] // 2, JOIN_PX[1] // 2
            box = (int(x) + columns, int(y) + rows, int(x + w) - columns, int(y + h) - rows)
            if int(ink[box[1] : box[3], box[0] : box[2]].sum()) >= FEWEST_PX // 2:
                boxes.append(box)
    return boxes


def _runs(grey: Grey) -> Mask:
    """Return pixels that lie in an upright or level run of one grey level, with an edge beside the run."""
    levels = (grey > LEVELS[0]) & (grey < LEVELS[1])
    found = np.zeros(grey.shape, dtype=bool)
    for axis in (0, 1):
        lines = grey if axis == 0 else np.ascontiguousarray(grey.T)
        found |= _upright(lines) if axis == 0 else _upright(lines).T
    return found & levels


def _upright(grey: Grey) -> Mask:
    same = np.zeros(grey.shape, dtype=np.uint8)
    same[1:] = grey[1:] == grey[:-1]
    # RUN_PX equal pixels are RUN_PX - 1 equalities in a row; their opening leaves whole runs.
    kernel = np.ones((RUN_PX - 1, 1), np.uint8)
    run = np.asarray(cv2.morphologyEx(same, cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0))
    run[:-1] = np.maximum(run[:-1], run[1:])
    wide = grey.astype(np.int16)
    edge = np.zeros(grey.shape, dtype=bool)
    for away in (1, 2, 3, 4, 5, 6):  # a stroke's edge is at most that far from any of its pixels
        step = np.abs(wide[:, away:] - wide[:, :-away]) >= EDGE
        edge[:, :-away] |= step
        edge[:, away:] |= step
    return np.asarray((run > 0) & edge)
