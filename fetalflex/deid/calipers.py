"""Calipers burned into ultrasound: crosses and dotted lines. They stay in the picture, and are marked.

Training must not learn them as anatomy. A cross is found by its shape on the picture's strokes, a dotted line or
ellipse by small dots that follow each other at equal steps.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from fetalflex.deid.lines import Box

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MEDIAN_PX = 9
ARMS_PX = (3, 4, 5, 6, 8)  # half the side of a cross
CROSS_LIKENESS = 0.72  # normalised correlation with the drawn cross
CROSS_CONTRAST = 70  # grey levels of a cross beyond its surroundings
DOT_CONTRAST = 35
DOT_PX, DOT_SIDE_PX = 20, 5  # pixels of a dot, of its longer side
STEP_PX = (3.5, 30.0)  # from dot to dot
STEP_ERROR = 1.2  # pixels that a dot may be away from where the two before say, on a line
BEND = 0.28  # of a step that it may be away on an ellipse, which turns by up to that angle from dot to dot
LEVEL_ERROR = 0.25  # of a dot's brightness
CHANCE = 1e-3  # rows expected by chance in a picture
DENSE = 0.9  # of the dots stand no thicker than where chance is reckoned
SHORTEST, LONGEST = 6, 20  # dots of a row
MOST_PAIRS = 400_000  # of dots near each other: more are noise, and would take a worker's memory
RIM_PX = 2
SMALLEST_CROSS_PX, LARGEST_CROSS_PX, MOST_SHAPES = 6, 30, 300  # sides of connected ink; more shapes than that are text
CROSS_RIM_PX, CROSS_ERROR_PX, DRAWN_LIKENESS = 2, 4, 0.65
DRAWN, DRAWN_DOT_PX = 255, 9
BACKGROUND = 2  # grey levels of the dark screen
EDGE_PX = (11, 11)  # how far its edge reaches: five pixels to each side


def find_calipers(grey: Grey) -> tuple[Box, ...]:
    """Return rectangles (x0, y0, x1, y1; exclusive) around the calipers of a picture [H, W]."""
    deviation = grey.astype(np.float32) - cv2.medianBlur(grey, MEDIAN_PX)
    surroundings = _surroundings(grey)
    # Some makers draw dark dots on bright tissue.
    dots = [box for sign in (1, -1) for box in _chains(np.where(surroundings, 0, sign * deviation))]
    return tuple(sorted({*_crosses(deviation), *dots}))


def find_drawn_calipers(layer: Mask) -> tuple[Box, ...]:
    """Return rectangles around the crosses and around the dots of rows in what may be drawn, bool [H, W].

    Where ink is known by its one level or its colour, a caliper may be as dark as what lies under it.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(layer.view(np.uint8))
    sides, sizes = stats[1:count, 2:4], stats[1:count, 4]
    shapes = (sides.min(axis=1) >= SMALLEST_CROSS_PX) & (sides.max(axis=1) <= LARGEST_CROSS_PX)
    chosen = 1 + np.nonzero(shapes & (sizes >= SMALLEST_CROSS_PX))[0]
    boxes = [] if len(chosen) > MOST_SHAPES else [b for n in chosen for b in _drawn_crosses(layer, stats[n])]
    solid = cv2.morphologyEx(layer.view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    return tuple(sorted({*boxes, *_chains(np.asarray(DRAWN * solid, np.float32), DRAWN_DOT_PX)}))


def _drawn_crosses(layer: Mask, found: npt.NDArray[np.int32]) -> list[Box]:
    """Return the best cross around a connected shape, if it is one."""
    x, y, w, h = (int(v) for v in found[:4])
    margin = CROSS_RIM_PX + 3
    around = np.pad(layer[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin], margin)
    picture = around.astype(np.float32)
    x, y = max(0, x - margin) - margin, max(0, y - margin) - margin
    best, box = DRAWN_LIKENESS, None
    for template in _DRAWN_TEMPLATES:
        side = template.shape[0]
        if side > min(picture.shape) or abs(side - 2 * CROSS_RIM_PX - max(w, h)) > CROSS_ERROR_PX:
            continue
        _, likeness, _, (left, top) = cv2.minMaxLoc(cv2.matchTemplate(picture, template, cv2.TM_CCOEFF_NORMED))
        if likeness > best:
            best, box = likeness, (x + left, y + top, x + left + side, y + top + side)
    return [] if box is None else [box]


def _surroundings(grey: Grey) -> npt.NDArray[np.bool_]:
    """Return the screen around the sector and the sector's edge, whose steps look like dots; bool [H, W]."""
    labels, _ = ndimage.label(np.pad(grey <= BACKGROUND, 1, constant_values=True))
    return np.asarray(cv2.dilate((labels[1:-1, 1:-1] == labels[0, 0]).astype(np.uint8), np.ones(EDGE_PX, np.uint8)) > 0)


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


def _thick(arm: int, thickness: int) -> Iterator[Floats]:
    """Yield an upright and, where it is thin, a diagonal cross of sharp edges, with a dark rim."""
    side = 2 * arm + thickness + 2 * CROSS_RIM_PX
    inner, middle = slice(CROSS_RIM_PX, side - CROSS_RIM_PX), slice(CROSS_RIM_PX + arm, CROSS_RIM_PX + arm + thickness)
    upright = np.zeros((side, side), np.float32)
    upright[middle, inner] = upright[inner, middle] = 1
    yield upright
    diagonal = np.zeros((side, side), np.uint8)
    ends = CROSS_RIM_PX, side - 1 - CROSS_RIM_PX
    cv2.line(diagonal, (ends[0], ends[0]), (ends[1], ends[1]), 1, thickness)
    cv2.line(diagonal, (ends[0], ends[1]), (ends[1], ends[0]), 1, thickness)
    yield diagonal.astype(np.float32)


_DRAWN_TEMPLATES = [cross for arm in ARMS_PX for thickness in (1, 2, 3) for cross in _thick(arm, thickness)]


def _chains(deviation: Floats, largest_px: int = DOT_PX) -> list[Box]:
    """Return a rectangle around each dot of a row that is no chance."""
    labels, count = ndimage.label(deviation > DOT_CONTRAST, np.ones((3, 3)))
    if not count:
        return []
    sizes = np.bincount(labels.ravel())[1:]
    levels = ndimage.maximum(deviation, labels, np.arange(1, count + 1))
    slices = ndimage.find_objects(labels)
    chosen = [i for i in np.nonzero(sizes <= largest_px)[0] if _side(slices[i]) <= DOT_SIDE_PX]
    if len(chosen) < SHORTEST:
        return []
    dots = np.array([[(s.start + s.stop - 1) / 2 for s in slices[i]] for i in chosen])
    found = sorted(set().union(*(_rows(dots, np.asarray(levels)[chosen], bend) for bend in (0.0, BEND))))
    return [
        (max(0, x.start - RIM_PX), max(0, y.start - RIM_PX), x.stop + RIM_PX, y.stop + RIM_PX)
        for y, x in (slices[chosen[i]] for i in found)
    ]


def _side(found: tuple[slice, slice]) -> int:
    return int(max(s.stop - s.start for s in found))


def _rows(dots: npt.NDArray[np.float64], levels: Floats, bend: float) -> set[int]:
    """Return the dots of rows in which each step and level repeats those before; all rows grow together.

    `bend`: the share of a step that the next may differ by: 0 for lines, more for ellipses.

    How long a row must be follows from the picture: so long that fewer than CHANCE rows are expected among as
    many dots without order. Source: Desolneux, Moisan, Morel, Meaningful alignments, IJCV 2000;40:7-23 (number
    of false alarms).
    """
    tree = cKDTree(dots)
    if int(tree.query_ball_point(dots, STEP_PX[1], return_length=True).sum()) > MOST_PAIRS:
        return set()
    pairs = tree.query_pairs(STEP_PX[1], output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    steps = dots[pairs[:, 1]] - dots[pairs[:, 0]]
    rows = pairs[(np.hypot(*steps.T) >= STEP_PX[0]) & _alike(levels[pairs[:, 1]], levels[pairs[:, 0]])]
    steps = dots[rows[:, 1]] - dots[rows[:, 0]]
    error_px = max(STEP_ERROR, bend * float(np.hypot(*steps.T).mean())) if len(rows) else STEP_ERROR
    needed = _shortest_row((len(rows), len(pairs)), error_px, dots, tree)
    if needed is None:
        return set()
    for _ in range(needed - 2):
        last = dots[rows[:, -1]]
        distance, following = tree.query(last + steps)
        goes_on = distance <= np.maximum(STEP_ERROR, bend * np.hypot(*steps.T))
        goes_on &= _alike(levels[following], levels[rows].mean(axis=1))
        goes_on &= (following[:, None] != rows).all(axis=1)
        # A line's step is known better from dot to dot; an ellipse's is the last one.
        kept = 0.0 if bend else 0.5
        steps = (kept * steps + (1 - kept) * (dots[following] - last))[goes_on]
        rows = np.concatenate([rows, following[:, None]], axis=1)[goes_on]
    return {int(i) for i in rows.ravel()}


def _alike(one: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    """Whether dots are drawn in one brightness; speckle's varies by half."""
    return np.asarray(np.abs(one - other) <= LEVEL_ERROR * np.maximum(one, other))


def _shortest_row(
    starts_of: tuple[int, int], error_px: float, dots: npt.NDArray[np.float64], tree: cKDTree
) -> int | None:
    """Return how many dots a row must have, or None where there are too many dots for any row to mean something.

    `starts_of`: pairs of like dots, of all pairs.
    """
    starts, pairs = starts_of
    if not starts:
        return None
    # Dots without order are Poisson; where they stand thickest, a row by chance is likeliest.
    near = np.quantile(tree.query_ball_point(dots, STEP_PX[1], return_length=True), DENSE) / (np.pi * STEP_PX[1] ** 2)
    likely = (1 - np.exp(-near * np.pi * error_px**2)) * min(1.0, starts / pairs)
    more = np.log(CHANCE / starts) / np.log(likely)
    needed = max(SHORTEST, 2 + int(np.ceil(more)))
    return needed if needed <= LONGEST else None
