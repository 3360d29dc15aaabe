"""Where a frame of a clip may have text that other frames do not have, without a network.

Moving speckle makes strokes, too, so what counts is where strokes are denser than they usually are there: than in the
median frame of the clip, by the place.
"""

import cv2
import numpy as np

from fetalflex.deid.lines import Box
from fetalflex.deid.text import Floats, Grey, strokes

LEAST = 13.0  # grey levels of a stroke beyond twice the local roughness
LINE_PX = (13, 61)  # rows, columns: a word
AROUND_PX = (31, 61)  # rows, columns: the speckle of a place is found so far from there in other frames
FLOOR = 0.05  # of a line in strokes: less is not dense anywhere
SURE, LIKELY = 1.15, 0.9  # times the usual density: there may be text; what belongs to the same line
MARGIN_PX = (40, 80)  # rows, columns around it that are looked at: the reach of the local roughness
MOST = 0.4  # of the picture: then all of it is looked at


class Usual:
    """How dense strokes usually are in a clip, from some of its frames [H, W] and their median `middle`."""

    def __init__(self, middle: Grey, frames: list[Grey]) -> None:
        self._static = cv2.dilate(strokes(middle, LEAST).view(np.uint8), np.ones((3, 3), np.uint8)) > 0
        densities = np.stack([self._density(frame) for frame in frames])
        # The lower median: text that is in less than half of the frames does not make itself usual.
        place = (len(frames) - 1) // 2
        self._usual = cv2.dilate(np.partition(densities, place, axis=0)[place], np.ones(AROUND_PX)) + FLOOR

    def find_new(self, grey: Grey, known: list[Box]) -> list[Box]:
        """Return rectangles around new dense strokes of a frame, outside of the `known` texts; all of it where many."""
        ratio = self._density(grey, known) / self._usual
        if ratio.max(initial=0) <= SURE:
            return []
        _, labels, stats, _ = cv2.connectedComponentsWithStats((ratio > LIKELY).view(np.uint8))
        numbers = np.unique(labels[ratio > SURE])
        looked = np.zeros(grey.shape, np.uint8)
        rows, columns = MARGIN_PX
        for x, y, w, h, _ in stats[numbers]:
            looked[max(0, y - rows) : y + h + rows, max(0, x - columns) : x + w + columns] = 1
        if looked.mean() > MOST:
            return [(0, 0, grey.shape[1], grey.shape[0])]
        count, _, stats, _ = cv2.connectedComponentsWithStats(looked)
        return [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:count]]

    def _density(self, grey: Grey, known: list[Box] | None = None) -> Floats:
        new = strokes(grey, LEAST)
        new[self._static] = False
        for x0, y0, x1, y1 in known or ():
            new[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = False
        return np.asarray(cv2.blur(new.astype(np.float32), LINE_PX[::-1]), dtype=np.float32)
