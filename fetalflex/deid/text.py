"""Where text is burned into ultrasound: strokes first, cheaply, then a text detector on what is left of the picture.

The detector alone takes speckle for big letters. So it does not see the picture but its strokes, in two views. In one,
what deviates from the median of its surroundings by less than a multiple of the local roughness is removed, so speckle
vanishes and letters stand alone. The other shows how sharp the picture is: the difference to its slightly blurred
self, in multiples of what is usual around. Echoes come through the system's point-spread function and are smooth from
pixel to pixel; drawn letters are not, however faint. A line that was found is followed to both sides as far as it is
sharp.
"""

from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fetalflex import artifacts
from fetalflex.deid import lines
from fetalflex.deid.calipers import find_drawn_calipers
from fetalflex.deid.lines import Box
from fetalflex.deid.ocr import detect_map
from fetalflex.deid.overlay import (
    FEWEST_COLOURED_PX,
    FEWEST_PX,
    TALLEST_PX,
    boxes_around,
    find_coloured_layers,
    find_even_layers,
)

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

VERSION = "6"  # of this method: what another version found is no longer believed
MEDIAN_PX, ROUGHNESS_PX = 9, 81
GAIN = 1.5
DEAD = 2.0  # the dead zone, in multiples of the roughness
FINE = 1.5  # the scale at which small letters are found
CANDIDATE_PX, CANDIDATE = (9, 25), 0.18  # of a window of rows x columns that are strong strokes: there may be letters
STRONG_PX = 20.0
CANDIDATE_MARGIN_PX = 28
MOST_AREA = 0.6  # of the picture in candidates: then it is looked at whole
LIKELY, SURE = 0.2, 0.5  # an area of likely pixels is text where its likeliest pixel is sure
BLUR_PX, USUAL_PX, LEAST = 1.0, 41, 0.5  # sharpness: against a blur of that sigma, over the mean around, at least that
SHARP_GAIN = 20.0
SHARP_LIKELY, SHARP_SURE = 0.1, 0.3  # speckle hardly shows in the sharp view: there the detector may be less sure
NARROW_PX = 32  # what is wider, and higher than a line, is tissue
SMALLEST_PX = 3  # of a found line, whose height is at most TALLEST_PX: letters of 40 pixels give about 40
BLOB_SHARP, DARK = 1.6, 12  # times as sharp as echoes are on average; what is no brighter is none
STROKE_PX = 6.0  # a stroke deviates at least so many grey levels beyond the dead zone
CACHE_SIZE = 128


class Found(NamedTuple):
    """Rectangles (x0, y0, x1, y1; exclusive) around texts, legible or not, and around calipers that are no text."""

    texts: tuple[Box, ...]
    calipers: tuple[Box, ...] = ()


def find_text(pixels: Grey) -> Found:
    """Return all text of a picture, and the calipers that were drawn as text is.

    pixels: uint8 [H, W], or [H, W, 3] RGB, in which coloured ink is looked for on its own, too.
    """
    # The strongest channel: coloured ink stands out of grey tissue there, more than in the luma.
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=-1)
    boxes: list[Box] = []
    deviation, roughness = _deviation(grey)
    view = _view(deviation, roughness, DEAD)
    for x0, y0, x1, y1 in _candidates(deviation, roughness):
        found = _boxes(detect_map(view[y0:y1, x0:x1], FINE))
        boxes.extend((a + x0, b + y0, c + x0, d + y0) for a, b, c, d in found)
    sharpness = _sharpness(grey)
    view = np.asarray((128 + SHARP_GAIN * sharpness).clip(0, 255), dtype=np.uint8)
    boxes.extend(_boxes(detect_map(view, 1), SHARP_LIKELY, SHARP_SURE))
    summed = np.asarray(cv2.integral(np.abs(sharpness)), dtype=np.float64)
    drawn = find_drawn(pixels)
    boxes = _believed(boxes, drawn.texts, summed, BLOB_SHARP * _mean_of_echoes(np.abs(sharpness), grey))
    padded = {lines.pad(lines.follow(box, summed), grey.shape) for box in boxes}
    padded.update(lines.pad_drawn([lines.follow(box, summed) for box in drawn.texts], grey.shape))
    return Found(tuple(sorted(padded)), drawn.calipers)


def find_drawn(pixels: Grey, fewest: int = FEWEST_PX) -> Found:
    """Return ink that its level or its colour tells, without margins; no network. Pixels as in `find_text`.

    `fewest`: as in `find_even_layers`.
    """
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=-1)
    layers = [(layer, fewest // 2) for layer in find_even_layers(grey, fewest)]
    if pixels.ndim == 3:
        layers += [(layer, FEWEST_COLOURED_PX) for layer in find_coloured_layers(pixels)]
    calipers = {box for layer, _ in layers for box in find_drawn_calipers(layer.like)}
    ours = np.zeros(grey.shape, dtype=bool)
    for x0, y0, x1, y1 in calipers:
        ours[max(0, y0) : y1, max(0, x0) : x1] = True
    texts = [box for layer, least in layers for box in boxes_around(layer.ink, least, ours)]
    return Found(tuple(texts), tuple(sorted(calipers)))


def strokes(grey: Grey, least: float = STROKE_PX) -> Mask:
    """Return where a picture [H, W] has strokes that stand out of their surroundings, bool [H, W]; no network.

    `least`: grey levels that a stroke deviates beyond the dead zone.
    """
    deviation, roughness = _deviation(grey)
    return np.asarray(np.abs(deviation) > DEAD * roughness + least)


class TextCache:
    """What was found in which pixels, by their hash: in memory, and in `folder` where one is given."""

    def __init__(self, folder: Path | None = None, size: int = CACHE_SIZE) -> None:
        self._folder, self._size = folder, size
        self._memory: OrderedDict[str, Found] = OrderedDict()

    def find(self, pixels: Grey) -> Found:
        """Return what `find_text` returns, computed once for equal pixels."""
        name = sha256(f"{VERSION}:{pixels.shape}:".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
        found = self._memory.get(name)
        if found is None:
            found = self._from_folder(name)
        if found is None:
            found = find_text(pixels)
            self._to_folder(name, found)
        self._memory[name] = found
        self._memory.move_to_end(name)
        if len(self._memory) > self._size:
            self._memory.popitem(last=False)
        return found

    def _from_folder(self, name: str) -> Found | None:
        path = None if self._folder is None else self._folder / f"{name}.json"
        if path is None or not path.is_file():
            return None
        said = artifacts.read_json(path)
        return Found(_read(said["boxes"]), _read(said["calipers"]))

    def _to_folder(self, name: str, found: Found) -> None:
        if self._folder is not None:
            said = {"boxes": [list(box) for box in found.texts], "calipers": [list(box) for box in found.calipers]}
            artifacts.write_json(self._folder / f"{name}.json", said)


def _read(boxes: list[list[int]]) -> tuple[Box, ...]:
    return tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in boxes)


def _deviation(grey: Grey) -> tuple[Floats, Floats]:
    deviation = grey.astype(np.float32) - cv2.medianBlur(grey, MEDIAN_PX)
    return deviation, np.asarray(cv2.blur(np.abs(deviation), (ROUGHNESS_PX, ROUGHNESS_PX)), dtype=np.float32)


def _sharpness(grey: Grey) -> Floats:
    """Return the difference of a picture [H, W] to its blurred self, in multiples of its mean size around."""
    plain = grey.astype(np.float32)
    sharp = plain - cv2.GaussianBlur(plain, (0, 0), BLUR_PX)
    return np.asarray(sharp / (cv2.blur(np.abs(sharp), (USUAL_PX, USUAL_PX)) + LEAST), dtype=np.float32)


def _mean_of_echoes(values: Floats, grey: Grey) -> float:
    echoes = grey > DARK
    return float(values[echoes].mean()) if echoes.any() else 0.0


def _believed(boxes: list[Box], drawn: tuple[Box, ...], summed: npt.NDArray[np.float64], least: float) -> list[Box]:
    """Return what the detector found without lone blobs no sharper than `least`: those are tissue."""
    believed = []
    for box in boxes:
        x0, y0, x1, y1 = box
        sharp = float(summed[y1, x1] - summed[y0, x1] - summed[y1, x0] + summed[y0, x0]) / ((x1 - x0) * (y1 - y0))
        others = [other for other in (*boxes, *drawn) if other != box] if sharp < least else []
        if sharp >= least or not lines.is_alone(box, others):
            believed.append(box)
    return believed


def _candidates(deviation: Floats, roughness: Floats) -> list[Box]:
    """Return where strokes are dense enough for letters: the cheap step before the network."""
    strong = (np.abs(deviation) > DEAD * roughness + STRONG_PX).astype(np.float32)
    near = cv2.blur(strong, CANDIDATE_PX[::-1]) > CANDIDATE
    reach = 2 * CANDIDATE_MARGIN_PX + 1
    grown = cv2.dilate(near.astype(np.uint8), np.ones((reach, reach), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(grown)
    boxes = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:count]]
    if sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) > MOST_AREA * deviation.size:
        return [(0, 0, deviation.shape[1], deviation.shape[0])]
    return boxes


def _view(deviation: Floats, roughness: Floats, dead: float) -> Grey:
    beyond = np.sign(deviation) * np.maximum(np.abs(deviation) - dead * roughness, 0)
    return np.asarray((128 + GAIN * beyond).clip(0, 255), dtype=np.uint8)


def _boxes(likely: Floats, least: float = LIKELY, sure: float = SURE) -> list[Box]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats((likely > least).astype(np.uint8))
    boxes = []
    for number in range(1, count):
        x, y, w, h = (int(v) for v in stats[number][:4])
        inside = labels[y : y + h, x : x + w] == number
        is_line = min(w, h) >= SMALLEST_PX and (h <= TALLEST_PX or w <= NARROW_PX)
        if is_line and likely[y : y + h, x : x + w][inside].max() > sure:
            boxes.append((x, y, x + w, y + h))
    return boxes
