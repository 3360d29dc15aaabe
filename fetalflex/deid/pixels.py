"""Pixels without text: all that is no ultrasound is blanked, text inside is blanked and marked, calipers are marked.

There is no option to keep the device's own text. A clip is cleaned frame by frame, in memory that does not grow.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from fetalflex.deid.calipers import find_calipers
from fetalflex.deid.constancy import find_constant_ink
from fetalflex.deid.lines import Box, bridge, pad_drawn
from fetalflex.deid.motion import Usual
from fetalflex.deid.sector import find_kept
from fetalflex.deid.text import Found, TextCache, find_drawn
from fetalflex.dicom.region import Grey, Mask
from fetalflex.errors import QuarantineError, Reason

Pixels = npt.NDArray[np.uint8]
BLANK = 0
SAMPLES = 5  # frames of a clip that are looked at before it is cleaned
CONTEXT_PX = 32  # around the ultrasound: text across its edge is found whole
CROSS_PX, ALONE_PX = 48, 24  # a padded box around one cross; as far as that no letter may stand
MOST_TEXT = 0.5  # of the ultrasound
HINT_PX = 7  # of one level that make a clip's frame worth looking at
FEWEST = 3  # sampled frames that tell what is usual


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
        several = list(frames)
        # Of fewer, none is the usual one: each frame is looked at whole.
        self._static = self._look(several) if len(several) >= FEWEST else None

    def clean(self, pixels: Pixels, *, alone: bool = False) -> Cleaned:
        """Return a frame without text: uint8 [H, W] grey or [H, W, 3] RGB, in source pixels.

        `alone`: look at this frame of a clip as wholly as at a still, too; for few frames that are kept.
        Raises: QuarantineError no_ultrasound_region, where `prepare` was not called; covered_by_text where so much
        would be blanked that the rest is no image: tissue never vanishes silently.
        """
        static = self._static or self._look([pixels])
        texts, calipers = static.texts, list(static.calipers)
        if self._static is not None and static.usual is not None:
            new, drawn = (self._look_whole if alone else self._look_anew)(pixels, static, static.usual)
            texts, calipers = texts + new, calipers + drawn
        # Both in C++: a boolean index over a colour frame costs as much as decoding it.
        clean: Pixels = np.asarray(cv2.bitwise_and(pixels, pixels, mask=static.kept.view(np.uint8)), dtype=np.uint8)
        marks = []
        for box in texts:
            x0, y0, x1, y1 = box
            if static.kept[y0:y1, x0:x1].any() and not _is_cross(box, texts, calipers):
                clean[y0:y1, x0:x1] = BLANK
                marks.append(Mark("text", (x0, y0, x1, y1)))
        for x0, y0, x1, y1 in calipers:
            box = max(0, x0), max(0, y0), min(pixels.shape[1], x1), min(pixels.shape[0], y1)
            if clean[box[1] : box[3], box[0] : box[2]].any():
                marks.append(Mark("caliper", box))
        written = [mark.box for mark in marks if mark.kind == "text"]
        left, whole = np.count_nonzero(_outside(static.kept, tuple(written))), np.count_nonzero(static.kept)
        if left < (1 - MOST_TEXT) * whole:
            share = f"{100 * (1 - left / whole):.0f} % of the ultrasound was taken for text"
            raise QuarantineError(Reason.COVERED_BY_TEXT, f"{share}; the limit is {100 * MOST_TEXT:.0f} %")
        gone = 1 - left / static.kept.size
        return Cleaned(clean, gone, tuple(marks))

    def _look(self, frames: list[Pixels]) -> "_Static":
        brightest = strongest_channel(frames[0] if len(frames) == 1 else np.maximum.reduce(frames))
        kept = find_kept(self._header, brightest)
        window = _window(kept)
        if not self._ocr:
            return _Static(kept, window)
        first = self._find(frames[0], window)
        if len(frames) == 1:
            return _Static(kept, window, first.texts, (*first.calipers, *self._calipers(brightest, window)))
        # Speckle moves and text does not: it stands out of the median (the brighter one of an even number).
        middle = np.partition(np.stack(frames), len(frames) // 2, axis=0)[len(frames) // 2]
        usual = self._find(middle, window)
        texts = {*first.texts, *usual.texts}
        grey = strongest_channel(middle)
        several = [_cut(strongest_channel(frame), window) for frame in frames]
        texts.update(_placed(pad_drawn(find_constant_ink(several), several[0].shape), window))
        found = tuple(sorted(texts)), (*usual.calipers, *self._calipers(grey, window))
        return _Static(kept, window, *found, Usual(_cut(grey, window), several))

    def _look_anew(self, pixels: Pixels, static: "_Static", usual: Usual) -> tuple[tuple[Box, ...], list[Box]]:
        """Return texts and calipers of a clip's frame that its sampled frames do not have."""
        grey = strongest_channel(pixels)
        x, y = static.window[:2]
        known = [(a - x, b - y, c - x, d - y) for a, b, c, d in static.texts]
        cut = _cut(pixels, static.window)
        drawn = find_drawn(cut, HINT_PX)
        new = [box for box in drawn.texts if not _is_within(box, known)]
        texts = _placed(pad_drawn(new, cut.shape), static.window)
        calipers = list(_placed(drawn.calipers, static.window))
        for place in _placed(usual.find_new(_cut(grey, static.window), known), static.window):
            calipers += self._calipers(grey, place)
            texts = texts or self._find(pixels, place).texts
        # A place shows that there is text; where all of it ends is seen best within the whole.
        texts += self._find(pixels, static.window).texts if texts else ()
        return texts + bridge(texts, grey.shape), calipers

    def _look_whole(self, pixels: Pixels, static: "_Static", usual: Usual) -> tuple[tuple[Box, ...], list[Box]]:
        """Return texts and calipers of a clip's frame, as of a still, and what differs from the other frames."""
        new, drawn = self._look_anew(pixels, static, usual)
        found = self._find(pixels, static.window)
        calipers = self._calipers(strongest_channel(pixels), static.window)
        return (*new, *found.texts), [*drawn, *found.calipers, *calipers]

    def _find(self, pixels: Pixels, window: Box) -> Found:
        texts, calipers = self._texts.find(_cut(pixels, window))
        return Found(_placed(texts, window), _placed(calipers, window))

    def _calipers(self, grey: Grey, window: Box) -> list[Box]:
        return list(_placed(find_calipers(_cut(grey, window)), window))


@dataclass(frozen=True, eq=False)
class _Static:
    """What is the same in all frames: the ultrasound, the window around it, what is written, how strokes lie there."""

    kept: Mask
    window: Box
    texts: tuple[Box, ...] = ()
    calipers: tuple[Box, ...] = ()
    usual: Usual | None = None


def warm_up() -> None:
    """Look at a made screen once: what detector and libraries keep of memory is there before a worker sees a file."""
    header = Dataset()
    header.Rows, header.Columns = shape = 576, 768
    speckle = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    header.SequenceOfUltrasoundRegions = []
    with suppress(QuarantineError):  # what is found in noise is of no interest
        PixelCleaner(header).clean(speckle)


def strongest_channel(pixels: Pixels) -> Grey:
    """Return the strongest channel [H, W]: coloured ink stands out of grey tissue there, more than in the luma."""
    if pixels.ndim == 2:
        return pixels
    # One by one: `split` takes three times as long.
    red, green, blue = (cv2.extractChannel(pixels, i) for i in range(3))
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


def _placed(boxes: Iterable[Box], window: Box) -> tuple[Box, ...]:
    """Return rectangles of a window as those of the whole picture."""
    x, y = window[:2]
    return tuple((a + x, b + y, c + x, d + y) for a, b, c, d in boxes)


def _is_within(box: Box, others: list[Box]) -> bool:
    """Whether one of the others holds all of a rectangle."""
    return any(o[0] <= box[0] and o[1] <= box[1] and o[2] >= box[2] and o[3] >= box[3] for o in others)


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
