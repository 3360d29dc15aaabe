"""Calipers burned into ultrasound: crosses and dotted lines. They stay in the picture, and are marked.

Training must not learn them as anatomy. A cross is found by its shape on the picture's strokes, a dotted line or
ellipse by small dots that follow each other at equal steps.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]

MEDIAN_PX = 9
ARMS_PX = (3, 4, 5, 6, 8)  # half the side of a cross
CROSS_LIKENESS = 0.72  # normalised correlation with the drawn cross
CROSS_CONTRAST = 70  # grey levels of a cross beyond its surroundings
DOT_CONTRAST = 35
DOT_PX = (1, 20)  # pixels of a dot
STEP_PX = (3.5, 22.0)  # from dot to dot
STEP_ERROR = 1.6  # pixels that a dot may be away from where the two before say
MOST_DOTS = 1500  # more are speckle
CHAIN = 6  # dots in a row that are no chance


def find_calipers(grey: Grey) -> tuple[Box, ...]:
    """Return rectangles (x0, y0, x1, y1; exclusive) around the calipers of a picture [H, W]."""
    deviation = grey.astype(np.float32) - cv2.medianBlur(grey, MEDIAN_PX)
    return tuple(sorted({*_crosses(deviation), *_chains(deviation)}))


def _crosses(deviation: Floats) -> list[Box]:
    bright = deviation.clip(0, 255)
    boxes: list[Box] = []
    for arm in ARMS_PX:
        contrast = cv2.dilate(bright, np.ones((3, 3), np.uint8)) > CROSS_CONTRAST
        for template in _drawn(arm):
            likeness = cv2.matchTemplate(bright, template, cv2.TM_CCOEFF_NORMED)
            peak = likeness == cv2.dilate(likeness, np.ones((5, 5), np.uint8))
            side = template.shape[0]
            for y, x in zip(*np.nonzero(peak & (likeness > CROSS_LIKENESS)), strict=True):
                if contrast[y + side // 2, x + side // 2]:
                    boxes.append((int(x), int(y), int(x) + side, int(y) + side))
    return boxes


def _drawn(arm: int) -> tuple[Floats, Floats]:
    """Return an upright and a diagonal cross, with a dark rim."""
    side = 2 * arm + 5
    upright = np.zeros((side, side), np.float32)
    upright[2 + arm, 2:-2] = upright[2:-2, 2 + arm] = 1
    diagonal = np.zeros((side, side), np.float32)
    steps = np.arange(2, side - 2)
    diagonal[steps, steps] = diagonal[steps, side - 1 - steps] = 1
    soft = cv2.GaussianBlur(upright, (0, 0), 0.5), cv2.GaussianBlur(diagonal, (0, 0), 0.5)
    return np.asarray(soft[0], np.float32), np.asarray(soft[1], np.float32)


def _chains(deviation: Floats) -> list[Box]:
    """Return rectangles around rows of dots."""
    labels, count = ndimage.label(deviation > DOT_CONTRAST, np.ones((3, 3)))
    if not count:
        return []
    sizes = np.bincount(labels.ravel())[1:]
    small = np.nonzero((sizes >= DOT_PX[0]) & (sizes <= DOT_PX[1]))[0] + 1
    slices = ndimage.find_objects(labels)
    dots = [
        ((s[0].start + s[0].stop - 1) / 2, (s[1].start + s[1].stop - 1) / 2)
        for s in (slices[i - 1] for i in small)
        if max(s[0].stop - s[0].start, s[1].stop - s[1].start) <= 5
    ]
    if not CHAIN <= len(dots) <= MOST_DOTS:
        return []
    lines = np.zeros(deviation.shape, np.uint8)
    for x0, y0, x1, y1 in (_around(chain) for chain in _rows(np.array(dots))):
        lines[y0:y1, x0:x1] = 1
    count, _, stats, _ = cv2.connectedComponentsWithStats(lines)
    return [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:count]]


def _rows(dots: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Return pieces of CHAIN dots in which each step repeats the step before; all chains grow together."""
    tree = cKDTree(dots)
    pairs = tree.query_pairs(STEP_PX[1], output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    steps = dots[pairs[:, 1]] - dots[pairs[:, 0]]
    far = np.hypot(steps[:, 0], steps[:, 1]) >= STEP_PX[0]
    chains, steps = pairs[far], steps[far]
    for _ in range(CHAIN - 2):
        if not len(chains):
            return []
        last = dots[chains[:, -1]]
        distance, following = tree.query(last + steps)
        goes_on = (distance <= STEP_ERROR) & (following[:, None] != chains).all(axis=1)
        steps = (0.5 * steps + 0.5 * (dots[following] - last))[goes_on]
        chains = np.concatenate([chains, following[:, None]], axis=1)[goes_on]
    return [dots[chain] for chain in chains]


def _around(chain: npt.NDArray[np.float64]) -> Box:
    (y0, x0), (y1, x1) = chain.min(axis=0), chain.max(axis=0)
    return max(0, int(x0) - 3), max(0, int(y0) - 3), int(x1) + 4, int(y1) + 4
