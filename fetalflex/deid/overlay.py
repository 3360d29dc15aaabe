"""Ink by what drawing leaves behind: one grey level many times on a small area, and colour that tissue does not have.

Speckle hardly repeats a level from pixel to pixel, and where it does, the levels beside that one are as frequent.
Drawn letters repeat one level alone. So each level is counted in small windows and compared with its neighbours
there: whatever the tissue, rough, smooth or as bright as the ink. This needs pixels as the device stored them:
compression with loss destroys it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.deid.lines import Box

Grey = npt.NDArray[np.uint8]
Signed = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

EDGE, EDGE_PX = 12, 3  # grey levels within a square of that side around a pixel of a stroke
LEVELS = (2, 250)  # darker is background; brighter is saturated echo, too
BESIDE_END, PILED, LEADS = 6, 2.0, 0.12  # levels below and above a map's end; how frequent it and those below are
DARK, DARK_EDGE = 25, 60
FEWEST_LEVELS = 0.6  # of those between a picture's darkest and brightest hundredth: with fewer, each holds many
RUNS_PX = (2, 3)  # pixels of equal level in a row or column
SOLID_PX = 11  # an area of equal levels that holds such a square is no stroke
BLOCK_PX = 16
WINDOWS = ((1, 5), (5, 1))  # rows, columns in blocks: some letters of a line, level and upright
BETWEEN = 5  # blocks: the longest side of a window
FEWEST_PX = 10  # of one level in a window
NEIGHBOURS = 4  # levels to each side
BESIDE = np.array([[1]] * NEIGHBOURS + [[0]] + [[1]] * NEIGHBOURS, np.uint8)
STANDS_OUT = 2.0  # a drawn level is so many times as frequent as the most frequent of its neighbours
SHARE = 0.05  # and holds that share of all runs beside: smooth tissue has runs of many levels
TILE, INKED = 4, 0.25  # blocks; ink takes that share of the tiles at most
FEW, RAREST = 5.0, 0.5
JOIN_PX = (9, 25)  # rows, columns: letters and words of a line
BESIDE_PX = (17, 49)  # rows, columns: around ink that is no caliper
FEWEST_COLOURED_PX = 8
AWAY = 24  # grey levels between two channels beyond what is usual at that brightness
BRIGHT, RARE = 20, 4e-3  # rarer brightnesses, ink's perhaps, are taken for as tinted as those above BRIGHT usually are
# Doppler, and no ink, is what is coloured on such a share of the picture in squares of that side, thicker than strokes;
# or on such a share in all; or as such a square.
FLOW, THICK_PX, MOST_COLOURED, FILLED_PX = 0.02, 7, 0.03, 15
TALLEST_PX = 56  # of a line of text; what is larger both ways is cut into cells
CELL_PX, SPARSE = 24, 0.08  # letters cover more of their line; dots, crosses and outlines less


@dataclass(frozen=True, eq=False)
class Layer:
    """What was drawn in one grey level or in colour: pixels that are surely ink, all that could be; bool [H, W]."""

    ink: Mask
    like: Mask


def find_even_layers(grey: Grey, fewest: int = FEWEST_PX) -> list[Layer]:
    """Return what is drawn in one grey level each in a picture [H, W].

    `fewest`: pixels in a window that a drawn level has at least; with few, speckle is found, too.
    """
    frequency = np.bincount(grey.ravel(), minlength=256)
    low, high = np.searchsorted(frequency.cumsum(), [0.01 * grey.size, 0.99 * grey.size])
    if np.count_nonzero(frequency[low : high + 1]) < FEWEST_LEVELS * (high - low + 1):
        return []
    usable = ((grey > LEVELS[0]) & (grey < LEVELS[1]) & ~_find_ends(frequency)[grey]) & _has_edge(grey)
    runs = [_runs(grey, length) & usable for length in RUNS_PX]
    near: dict[int, Mask] = {}
    for counted in runs:
        for level, area in _spikes(grey, counted, fewest):
            near[level] = area | near[level] if level in near else area
    layers = []
    for level, area in sorted(near.items()):
        like = grey == level
        layers.append(Layer(runs[0] & area & like, like))
    return layers


def find_coloured_layers(pixels: Grey) -> list[Layer]:
    """Return what is coloured beyond its brightness's tint, in RGB [H, W, 3]; nothing in Doppler."""
    red, green, blue = (channel.astype(np.int16) for channel in cv2.split(pixels))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return []
    top = np.maximum(np.maximum(red, green), blue)
    tints = red - green, blue - green
    away = np.maximum.reduce([np.abs(tint - _usual_tint(top, tint)[top]) for tint in tints])
    ink = away > AWAY
    thick = cv2.morphologyEx(ink.view(np.uint8), cv2.MORPH_OPEN, np.ones((THICK_PX, THICK_PX), np.uint8))
    if not 0 < float(ink.mean()) < MOST_COLOURED or float(thick.mean()) >= FLOW:
        return []
    _, labels = cv2.connectedComponents(ink.view(np.uint8))
    filled = cv2.erode(ink.view(np.uint8), np.ones((FILLED_PX, FILLED_PX), np.uint8)) > 0
    ink &= ~np.isin(labels, np.unique(labels[filled]))
    return [Layer(ink, ink)]


def boxes_around(ink: Mask, fewest: int, ours: Mask | None = None) -> list[Box]:
    """Return rectangles around lines of ink [H, W] of at least `fewest` pixels; large shapes (outlines) in cells.

    `ours`: ink that is no text, as of calipers; where there is no other ink in a line, there is no text.
    """
    text = ink if ours is None or not ours.any() else ink & ~ours
    # What lies beside other ink is that line's, whatever its shape: an x or a + may be a letter.
    beside = text if text is ink else cv2.dilate(text.view(np.uint8), np.ones(BESIDE_PX, np.uint8)).view(np.bool_) & ink
    joined = cv2.dilate(ink.view(np.uint8), np.ones(JOIN_PX, np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    boxes: list[Box] = []
    for number in range(1, count):
        x, y, w, h = (int(v) for v in stats[number][:4])
        inside = ink[y : y + h, x : x + w] & (labels[y : y + h, x : x + w] == number)
        if np.count_nonzero(text[y : y + h, x : x + w] & inside) < fewest:
            continue
        here = beside[y : y + h, x : x + w] & inside
        x0, y0, x1, y1 = _tight(inside)
        sparse = np.count_nonzero(inside) < SPARSE * (x1 - x0) * (y1 - y0)
        cell = CELL_PX if sparse or min(x1 - x0, y1 - y0) > TALLEST_PX else max(w, h)
        for top in range(y0, y1, cell):
            for left in range(x0, x1, cell):
                part = inside[top : min(y1, top + cell), left : min(x1, left + cell)]
                if here[top : min(y1, top + cell), left : min(x1, left + cell)].any():
                    a, b, c, d = _tight(part)
                    boxes.append((x + left + a, y + top + b, x + left + c, y + top + d))
    return boxes


def _tight(ink: Mask) -> Box:
    rows, columns = np.nonzero(ink.any(axis=1))[0], np.nonzero(ink.any(axis=0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _runs(grey: Grey, length: int) -> Mask:
    """Return pixels in an upright or level run of at least `length` of one grey level."""
    found = np.maximum(_upright(grey, length), _upright(np.ascontiguousarray(grey.T), length).T)
    square = np.ones((SOLID_PX, SOLID_PX), np.uint8)
    # Half of a square's runs can be missing in flat tissue with noise; in a stroke most of it is other tissue.
    solid = cv2.morphologyEx(found, cv2.MORPH_OPEN, square)
    return np.asarray(found > solid)


def _has_edge(grey: Grey) -> Mask:
    """Return where a stroke would be seen; a dark one is only where what is around is bright."""
    around = np.ones((EDGE_PX, EDGE_PX), np.uint8)
    edge = cv2.subtract(cv2.dilate(grey, around), cv2.erode(grey, around))
    return np.asarray(edge >= np.where(np.arange(256) < DARK, DARK_EDGE, EDGE)[grey])


def _find_ends(frequency: npt.NDArray[np.int64]) -> Mask:
    """Return where a picture's grey map ends, bool [256]: echoes pile up there, and fewer are a little darker."""
    padded = np.pad(frequency, BESIDE_END).cumsum()
    above = padded[2 * BESIDE_END :] - padded[BESIDE_END:-BESIDE_END]
    below = padded[BESIDE_END - 1 : -BESIDE_END - 1] - np.pad(padded, (1, 0))[:256]
    # Where more echoes follow than pile up, the map goes on: a large letter has that level.
    beyond = frequency[LEVELS[1] - 1 :: -1].cumsum()[::-1] - frequency[: LEVELS[1]]
    goes_on = np.pad(beyond, (0, 256 - LEVELS[1])) > frequency
    return np.asarray((frequency > PILED * above) & (below > LEADS * frequency) & ~goes_on)


def _upright(grey: Grey, length: int) -> npt.NDArray[np.uint8]:
    same = np.zeros(grey.shape, dtype=np.uint8)
    same[1:] = grey[1:] == grey[:-1]
    # `length` equal pixels are one equality less in a row; their opening leaves whole runs.
    kernel = np.ones((length - 1, 1), np.uint8)
    run = np.asarray(cv2.morphologyEx(same, cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0))
    run[:-1] = np.maximum(run[:-1], run[1:])
    return run.astype(np.uint8, copy=False)


def _spikes(grey: Grey, counted: Mask, fewest: int) -> list[tuple[int, Mask]]:
    """Return each level that stands out of its neighbours in some window, and the windows' area, bool [H, W]."""
    height, width = grey.shape
    # One picture of counts for each level, one below the other, with rows of zeros between: [levels x rows, columns].
    rows, columns = -(-height // BLOCK_PX) + BETWEEN, -(-width // BLOCK_PX)
    ys, xs = np.nonzero(counted)
    place = (grey[ys, xs].astype(np.int64) * rows + ys // BLOCK_PX) * columns + xs // BLOCK_PX
    counts = np.bincount(place, minlength=256 * rows * columns).reshape(256 * rows, columns).astype(np.float32)
    usual = _usual_frequency(counts.reshape(256, rows, columns))[:, None]
    near: dict[int, Grey] = {}
    for window in WINDOWS:
        summed = cv2.boxFilter(counts, -1, window[::-1], normalize=False, borderType=cv2.BORDER_CONSTANT)
        levels = np.asarray(summed, dtype=np.float32).reshape(256, -1)
        beside = usual * cv2.dilate(levels / np.maximum(usual, RAREST), BESIDE)
        over = levels >= fewest + STANDS_OUT * beside + SHARE * levels.sum(axis=0)
        over = over.reshape(256, rows, columns)
        for level in np.nonzero(over.any(axis=(1, 2)))[0]:
            grown = cv2.dilate(over[level].view(np.uint8), np.ones(window, np.uint8))
            near[int(level)] = np.maximum(near.get(int(level), 0), grown)
    return [(level, _enlarge(area, (height, width))) for level, area in near.items()]


def _usual_frequency(counts: Floats) -> Floats:
    """Return how frequent each level is in a picture relative to the levels beside it [256]: a stretched one has gaps.

    `counts`: by level and block. Of each level the blocks in which it is most frequent do not count: ink is there.
    """
    tiles = np.add.reduceat(np.add.reduceat(counts, np.arange(0, counts.shape[1], TILE), 1),
                            np.arange(0, counts.shape[2], TILE), 2).reshape(256, -1)  # fmt: skip
    kept = round((1 - INKED) * tiles.shape[1])
    total = np.partition(tiles, kept - 1, axis=1)[:, :kept].sum(axis=1) if 0 < kept < tiles.shape[1] else tiles.sum(1)
    around = ndimage.median_filter(total, 2 * NEIGHBOURS + 5, mode="nearest")
    return np.asarray((total + FEW) / (around + FEW), dtype=np.float32)


def _enlarge(area: Grey, shape: tuple[int, int]) -> Mask:
    wide = area.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)[: shape[0], : shape[1]]
    return np.ascontiguousarray(wide).view(np.bool_)


def _usual_tint(top: Signed, tint: Signed) -> Signed:
    """Return the median difference of two channels at each brightness [256]: that decides a grey map's colour."""
    counts = np.bincount((top.astype(np.int64) * 512 + tint + 255).ravel(), minlength=256 * 512).reshape(256, 512)
    # With the brightnesses beside it: a bright one may hold nothing but ink.
    counts = np.asarray(cv2.boxFilter(counts.astype(np.float32), -1, (1, 9), normalize=False))
    ranks = counts.cumsum(axis=1)
    usual = (ranks < ranks[:, -1:] / 2).sum(axis=1) - 255
    bright = top > BRIGHT
    share = float(np.median(tint[bright] / top[bright])) if bright.any() else 0.0
    return np.where(ranks[:, -1] < RARE * top.size, share * np.arange(256), usual).astype(np.int16)
