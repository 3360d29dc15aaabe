"""Where text is burned into ultrasound: strokes first, cheaply, then a text detector on what is left of the picture.

The detector alone takes speckle for big letters. So it does not see the picture but its strokes, in two views. In one,
what deviates from the median of its surroundings by less than a multiple of the local roughness is removed, so speckle
vanishes and letters stand alone. The other shows how sharp the picture is: the difference to its slightly blurred
self, in multiples of what is usual around. Echoes come through the system's point-spread function and are smooth from
pixel to pixel; drawn letters are not, however faint. A line that was found is followed to both sides as far as it is
sharp.
"""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fetalflex import artifacts
from fetalflex.deid.ocr import detect_map
from fetalflex.deid.overlay import FEWEST_PX, TALLEST_PX, find_coloured_ink, find_even_ink

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]

VERSION = "5"  # of this method: what another version found is no longer believed
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
FOLLOW = 0.25  # a line goes on where it is sharper than usual by that share of what it is where it was found
FOLLOW_SHARP = 1.8  # only a line that is so many times as sharp as usual is followed
FOLLOW_BESIDE = 1.2  # and is so many times as sharp as what lies above and below: tissue is as sharp there
FOLLOW_MOST = 12  # steps to each side, each as long as the line is high
UPRIGHT = 1.5  # times as high as wide: a line that reads upwards or downwards
NARROW_PX = 32  # what is wider, and higher than a line, is tissue
SMALLEST_PX = 3  # of a found line, whose height is at most TALLEST_PX: letters of 40 pixels give about 40
PAD = (0.5, 0.7)  # of a found line's height, above and below, left and right
PAD_PX, DRAWN_PAD = 4, 0.35
LONG, LONG_PAD, LONG_PAD_PX = (
    4,
    2.5,
    8,
)  # of a line so many times as long as high the ends are less certain than the rest
STROKE_PX = 6.0  # a stroke deviates at least so many grey levels beyond the dead zone
CACHE_SIZE = 128


def find_text(pixels: Grey) -> tuple[Box, ...]:
    """Return rectangles (x0, y0, x1, y1; exclusive) around all text of a picture, legible or not.

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
    drawn = pad_drawn([_follow_either_way(box, summed) for box in find_drawn(pixels)], grey.shape)
    return tuple(sorted({*drawn, *(_pad(_follow_either_way(box, summed), grey.shape) for box in boxes)}))


def find_drawn(pixels: Grey, fewest: int = FEWEST_PX) -> tuple[Box, ...]:
    """Return rectangles around ink that its level or its colour tells; no network. Pixels as in `find_text`.

    `fewest`: as in `find_even_ink`.
    """
    if pixels.ndim == 2:
        return tuple(find_even_ink(pixels, fewest))
    return (*find_even_ink(pixels.max(axis=-1), fewest), *find_coloured_ink(pixels))


def pad_drawn(boxes: Iterable[Box], shape: tuple[int, ...]) -> tuple[Box, ...]:
    """Return rectangles around ink whose pixels are known with a narrow margin: smoothed edges, thin strokes."""
    height, width = shape[:2]
    padded = []
    for x0, y0, x1, y1 in boxes:
        margin = PAD_PX + round(DRAWN_PAD * min(x1 - x0, y1 - y0))
        padded.append((max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)))
    return tuple(padded)


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
        self._memory: OrderedDict[str, tuple[Box, ...]] = OrderedDict()

    def find(self, pixels: Grey) -> tuple[Box, ...]:
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

    def _from_folder(self, name: str) -> tuple[Box, ...] | None:
        path = None if self._folder is None else self._folder / f"{name}.json"
        if path is None or not path.is_file():
            return None
        return tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in artifacts.read_json(path)["boxes"])

    def _to_folder(self, name: str, found: tuple[Box, ...]) -> None:
        if self._folder is not None:
            artifacts.write_json(self._folder / f"{name}.json", {"boxes": [list(box) for box in found]})


def _deviation(grey: Grey) -> tuple[Floats, Floats]:
    deviation = grey.astype(np.float32) - cv2.medianBlur(grey, MEDIAN_PX)
    return deviation, np.asarray(cv2.blur(np.abs(deviation), (ROUGHNESS_PX, ROUGHNESS_PX)), dtype=np.float32)


def _sharpness(grey: Grey) -> Floats:
    """Return the difference of a picture [H, W] to its blurred self, in multiples of its mean size around."""
    plain = grey.astype(np.float32)
    sharp = plain - cv2.GaussianBlur(plain, (0, 0), BLUR_PX)
    return np.asarray(sharp / (cv2.blur(np.abs(sharp), (USUAL_PX, USUAL_PX)) + LEAST), dtype=np.float32)


def _follow_either_way(box: Box, summed: npt.NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = box
    if y1 - y0 <= UPRIGHT * (x1 - x0):
        return _follow(box, summed)
    a, b, c, d = _follow((y0, x0, y1, x1), summed.T)
    return b, a, d, c


def _follow(box: Box, summed: npt.NDArray[np.float64]) -> Box:
    """Return a line's rectangle, longer where it goes on; `summed` is the integral of |sharpness|.

    It goes on where a strip beside it is nearly as sharp, and sharper than what lies above and below the strip.
    """
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


def _pad(box: Box, shape: tuple[int, ...]) -> Box:
    x0, y0, x1, y1 = box
    wide, high = x1 - x0, y1 - y0
    side, up = (round(share * min(wide, high)) + PAD_PX for share in PAD[::-1])
    far = round(LONG_PAD * min(wide, high)) + LONG_PAD_PX
    if wide >= LONG * high:
        side = far
    elif high >= LONG * wide:
        side, up = up, far
    return max(0, x0 - side), max(0, y0 - up), min(shape[1], x1 + side), min(shape[0], y1 + up)
