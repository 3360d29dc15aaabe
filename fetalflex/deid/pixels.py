"""Pixels without text: all that is no ultrasound is blanked, text inside is blanked and marked, calipers are marked.

There is no option to keep the device's own text. A clip is cleaned frame by frame, in memory that does not grow.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from fetalflex.deid.calipers import find_calipers
from fetalflex.deid.sector import find_kept
from fetalflex.deid.text import STRONG_PX, Box, TextCache, strokes
from fetalflex.dicom.region import Grey, Mask

Pixels = npt.NDArray[np.uint8]
BLANK = 0
SAMPLES = 5  # frames of a clip that are looked at before it is cleaned
CONTEXT_PX = 32  # around the ultrasound: text across its edge is found whole
CROSS_PX, ALONE_PX = 48, 24  # a padded box around one cross; as far as that no letter may stand
WINDOW_PX = (9, 25)  # rows, columns: a few letters
NEW_STROKES = 0.24  # of a window are strong strokes that the sampled frames do not have: there may be letters
NEAR_STROKES = 0.12  # around there, what belongs to the same line
NEW_MARGIN_PX = 40  # what is looked at around new strokes: the reach of the local roughness
MOST_NEW = 0.4  # of the window: then all of it is looked at


@dataclass(frozen=True)
class Mark:
    """A rectangle (x0, y0, x1, y1; exclusive, source pixels) within the ultrasound that does not show tissue."""

    kind: Literal["text", "caliper"]
    box: Box


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Clean pixels, shaped as they came; the share of the screen that was blanked; what lies within the ultrasound."""

    pixels: Pixels
    blanked: float
    marks: tuple[Mark, ...]


class PixelCleaner:
    """Cleans the frames of one file. `ocr=False` blanks what is outside of the ultrasound only (for measuring).

    `cache_folder`: where found text is kept between runs, by a hash of the pixels.
    """

    def __init__(self, header: Dataset, *, ocr: bool = True, cache_folder: Path | None = None) -> None:
        self._header, self._ocr = header, ocr
        self._texts = _cache(cache_folder)
        self._static: _Static | None = None

    def prepare(self, frames: Iterable[Pixels]) -> None:
        """Look for the sector and for static text in some frames of a clip (5 are enough), once.

        Raises: QuarantineError no_ultrasound_region where the header names none and none is found.
        """
        self._static = self._look(list(frames))

    def clean(self, pixels: Pixels) -> Cleaned:
        """Return a frame without text: uint8 [H, W] grey or [H, W, 3] RGB, in source pixels.

        Raises: QuarantineError no_ultrasound_region, where `prepare` was not called.
        """
        static = self._static or self._look([pixels])
        texts, calipers = static.texts, list(static.calipers)
        if self._ocr and self._static is not None:
            grey = strongest_channel(pixels)
            for place in static.find_new(grey):
                texts = texts + self._find(pixels, place)
                calipers += self._calipers(grey, place)
        # Both in C++: a boolean index over a colour frame costs as much as decoding it.
        clean: Pixels = np.asarray(cv2.bitwise_and(pixels, pixels, mask=static.kept.view(np.uint8)), dtype=np.uint8)
        marks = []
        for box in texts:
            x0, y0, x1, y1 = box
            if static.kept[y0:y1, x0:x1].any() and not _is_cross(box, texts, calipers):
                clean[y0:y1, x0:x1] = BLANK
                marks.append(Mark("text", (x0, y0, x1, y1)))
        marks.extend(Mark("caliper", box) for box in calipers if clean[box[1] : box[3], box[0] : box[2]].any())
        gone = 1 - np.count_nonzero(_outside(static.kept, texts)) / static.kept.size
        return Cleaned(clean, gone, tuple(marks))

    def _look(self, frames: list[Pixels]) -> "_Static":
        brightest = strongest_channel(frames[0] if len(frames) == 1 else np.maximum.reduce(frames))
        kept = find_kept(self._header, brightest)
        window = _window(kept)
        if not self._ocr:
            return _Static(kept, window, (), (), np.zeros((0, 0), bool))
        texts = set(self._find(frames[0], window))
        middle = frames[0]
        if len(frames) > 1:
            # Speckle moves and text does not: it stands out of the median.
            middle = np.median(np.stack(frames), axis=0).astype(np.uint8)
            texts.update(self._find(middle, window))
        grey = strongest_channel(middle)
        known = strokes(_cut(grey, window)) if len(frames) > 1 else np.zeros((0, 0), bool)
        return _Static(kept, window, tuple(sorted(texts)), tuple(self._calipers(grey, window)), known)

    def _find(self, pixels: Pixels, window: Box) -> tuple[Box, ...]:
        x, y = window[:2]
        return tuple((a + x, b + y, c + x, d + y) for a, b, c, d in self._texts.find(_cut(pixels, window)))

    def _calipers(self, grey: Grey, window: Box) -> list[Box]:
        x, y = window[:2]
        return [(a + x, b + y, c + x, d + y) for a, b, c, d in find_calipers(_cut(grey, window))]


@dataclass(frozen=True, eq=False)
class _Static:
    """What is the same in all frames: the ultrasound, the window around it, what is written, strokes of the window."""

    kept: Mask
    window: Box
    texts: tuple[Box, ...]
    calipers: tuple[Box, ...]
    strokes: Mask

    def find_new(self, grey: Grey) -> list[Box]:
        """Return where a frame may have text that the sampled frames do not have: dense new strokes, with a margin.

        Moving speckle makes strokes, too, but letters are denser than it. The whole window where much is dense.
        """
        x, y = self.window[:2]
        new = strokes(_cut(grey, self.window), STRONG_PX)
        new[cv2.dilate(self.strokes.view(np.uint8), np.ones((3, 3), np.uint8)) > 0] = False
        for x0, y0, x1, y1 in self.texts:
            new[max(0, y0 - y) : max(0, y1 - y), max(0, x0 - x) : max(0, x1 - x)] = False
        dense = np.asarray(cv2.blur(new.astype(np.float32), WINDOW_PX[::-1]))
        if dense.max(initial=0) <= NEW_STROKES:
            return []
        count, labels, stats, _ = cv2.connectedComponentsWithStats((dense > NEAR_STROKES).view(np.uint8))
        sure = np.unique(labels[dense > NEW_STROKES])
        grown = np.zeros(dense.shape, np.uint8)
        for left, top, width, height, _ in stats[sure[sure > 0]]:
            grown[max(0, top - NEW_MARGIN_PX) : top + height + NEW_MARGIN_PX,
                  max(0, left - NEW_MARGIN_PX) : left + width + NEW_MARGIN_PX] = 1  # fmt: skip
        if grown.mean() > MOST_NEW:
            return [self.window]
        count, _, stats, _ = cv2.connectedComponentsWithStats(grown)
        return [(int(a) + x, int(b) + y, int(a + w) + x, int(b + h) + y) for a, b, w, h, _ in stats[1:count]]


def strongest_channel(pixels: Pixels) -> Grey:
    """Return the strongest channel [H, W]: coloured ink stands out of grey tissue there, more than in the luma."""
    if pixels.ndim == 2:
        return pixels
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.max(cv2.max(red, green), blue), dtype=np.uint8)


def _is_cross(box: Box, texts: tuple[Box, ...], calipers: list[Box]) -> bool:
    """Whether what was found as text is a lone cross of a caliper, and no text is beside it."""
    x0, y0, x1, y1 = box
    if max(x1 - x0, y1 - y0) > CROSS_PX:
        return False
    beside = [t for t in texts if t[0] < x1 + ALONE_PX and x0 < t[2] + ALONE_PX and t[1] < y1 and y0 < t[3]]
    if any(max(t[2] - t[0], t[3] - t[1]) > CROSS_PX for t in beside):
        return False
    centres = [((c[0] + c[2]) / 2, (c[1] + c[3]) / 2) for c in calipers if c[2] - c[0] == c[3] - c[1]]
    third = ((x1 - x0) / 3, (y1 - y0) / 3)
    return any(abs(x - (x0 + x1) / 2) < third[0] and abs(y - (y0 + y1) / 2) < third[1] for x, y in centres)


def _window(kept: Mask) -> Box:
    height, width = kept.shape
    x, y, w, h = cv2.boundingRect(kept.view(np.uint8))
    return (
        max(0, x - CONTEXT_PX), max(0, y - CONTEXT_PX),
        min(width, x + w + CONTEXT_PX), min(height, y + h + CONTEXT_PX),
    )  # fmt: skip


def _cut(pixels: Pixels, window: Box) -> Pixels:
    x0, y0, x1, y1 = window
    return np.ascontiguousarray(pixels[y0:y1, x0:x1])


def _outside(kept: Mask, texts: tuple[Box, ...]) -> Mask:
    if not texts:
        return kept
    left = kept.copy()
    for x0, y0, x1, y1 in texts:
        left[y0:y1, x0:x1] = False
    return left


@cache
def _cache(folder: Path | None) -> TextCache:
    return TextCache(folder)
