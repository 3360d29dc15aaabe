"""Plant ink on ultrasound images and judge, without the code that blanks, whether any of it is left.

Sources: the embedded phantom; with FETALFLEX_DATA also the public sets. At every planted rectangle each pixel of ink
(known exactly) must be changed or blank in the output; tesseract, where it is installed, reads the rectangle and its
surroundings, and must not find the planted token. On the clean images, the share of tissue that is blanked for
nothing is measured, and the seconds.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset
from scipy import ndimage

from benchmarks.planting import Planted, areas, conditions, plant, token
from fetalflex.deid.pixels import Cleaned, PixelCleaner
from fetalflex.phantom.acoustics import image_scene
from fetalflex.phantom.center import PLANE_WORDS
from fetalflex.phantom.devices import device
from fetalflex.phantom.scene import make_scene

SETS = {"hc18": "hc18/training_set", "african": "african_planes/images", "barcelona": "barcelona_planes/images"}
PER_IMAGE = 4


def phantom_images(count: int) -> Iterator[tuple[str, np.ndarray, Dataset]]:
    """Yield phantom images with their regions, from both devices."""
    for number in range(count):
        scanner = device(("curved-a", "curved-b")[number % 2])
        planes = list(PLANE_WORDS[scanner.name].values())
        rng = np.random.default_rng(number)
        picture = image_scene(make_scene(planes[number // 2 % len(planes)], 18 + number % 20, rng), scanner, rng)
        yield f"phantom-{scanner.name}", picture.pixels, region_header(picture.pixels.shape, picture.region)


def public_images(data: Path, name: str, count: int) -> Iterator[tuple[str, np.ndarray, Dataset]]:
    """Yield images of a public set, whose region is the whole picture."""
    files = [f for f in sorted((data / SETS[name]).rglob("*.*")) if "Annotation" not in f.name]
    for file in files[:: max(1, len(files) // count)][:count]:
        pixels = np.asarray(Image.open(file).convert("L"))
        yield name, pixels, region_header(pixels.shape, None)


def region_header(shape: tuple[int, ...], region: tuple[int, int, int, int] | None) -> Dataset:
    """Return the header that a device would write: a two-dimensional tissue region, or none."""
    header = Dataset()
    header.Rows, header.Columns = shape[:2]
    if region is not None:
        item = Dataset()
        item.RegionSpatialFormat = item.RegionDataType = 1
        item.RegionLocationMinX0, item.RegionLocationMinY0 = region[:2]
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = region[2] - 1, region[3] - 1
        header.SequenceOfUltrasoundRegions = [item]
    return header


def plant_several(pixels: np.ndarray, header: Dataset, chosen: list, rng: np.random.Generator):
    """Return the image with a token for each condition that finds its place, and what was planted."""
    regions = header.get("SequenceOfUltrasoundRegions")
    box = (0, 0, pixels.shape[1], pixels.shape[0])
    if regions:
        item = regions[0]
        box = (item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1 + 1,
               item.RegionLocationMaxY1 + 1)  # fmt: skip
    free = dict(areas(pixels if pixels.ndim == 2 else pixels.max(axis=-1), box))
    planted: list[Planted] = []
    for condition in chosen:
        drawn = plant(pixels, free[condition.place], condition, token(rng), rng)
        if drawn is not None:
            pixels, ink = drawn
            planted.append(ink)
            near = ndimage.binary_dilation(ink.ink, iterations=12)
            free = {name: area & ~near for name, area in free.items()}
    return pixels, planted


def ink_left(planted: Planted, before: np.ndarray, cleaned: np.ndarray) -> float:
    """Return the share of ink pixels that are still there: as planted, and not blank."""
    same, blank = cleaned == before, cleaned == 0
    if same.ndim == 3:
        same, blank = same.all(axis=-1), blank.all(axis=-1)
    return float((same & ~blank)[planted.ink].mean())


def read_by_tesseract(pixels: np.ndarray, box: tuple[int, int, int, int]) -> str:
    """Return what a second engine reads in and around a rectangle, four times enlarged below 20 pixels of height."""
    x0, y0, x1, y1 = box
    cut = pixels[max(0, y0 - 12) : y1 + 12, max(0, x0 - 12) : x1 + 12]
    image = Image.fromarray(cut).convert("L")
    zoom = 4 if y1 - y0 < 20 else 2
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.BICUBIC)
    with subprocess.Popen(
        ["tesseract", "stdin", "stdout", "--psm", "6"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    ) as process:  # fmt: skip
        image.save(process.stdin, format="PNG")
        process.stdin.close()
        return process.stdout.read().decode("utf-8", "replace")


def holds_token(read: str, text: str) -> bool:
    """Whether any word of the token with 4 characters or more was read."""
    flat = "".join(c for c in read.upper() if c.isalnum() or c == ".")
    return any(len(word) >= 4 and word in flat for word in text.upper().replace(",", "").split())


class Tally:
    """Recall by condition, false positives by source, seconds."""

    def __init__(self, tesseract: bool) -> None:
        self.tesseract = tesseract
        self.rows: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.lost: dict[str, list[float]] = defaultdict(list)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.read_before = self.read_after = self.judged = 0
        self.failures: list[str] = []

    def judge(self, source: str, planted: Planted, before: np.ndarray, cleaned: np.ndarray) -> None:
        """Count one planted token."""
        left = ink_left(planted, before, cleaned)
        condition = planted.condition
        factors = {"source": source, "place": condition.place, "contrast": condition.contrast,
                   "size": str(condition.size_px), "style": condition.style, "colour": condition.colour,
                   "face": condition.face, "all": "all"}  # fmt: skip
        for name, value in factors.items():
            self.rows[name, value].append(left)
        if left:
            self.failures.append(f"{source} {left:.3f} of {planted.ink.sum()} px, {planted.text!r}: {condition}")
        if self.tesseract:
            self.judged += 1
            self.read_before += holds_token(read_by_tesseract(before, planted.box), planted.text)
            self.read_after += holds_token(read_by_tesseract(cleaned, planted.box), planted.text)

    def report(self) -> dict:
        """Return all figures: recall is the share of tokens of which no pixel of ink is left."""
        recall = {f"{name} {value}": [len(left), float(np.mean(np.array(left) == 0)), float(np.mean(left))]
                  for (name, value), left in sorted(self.rows.items())}  # fmt: skip
        lost = {name: [len(v), float(np.mean(v)), float(np.max(v))] for name, v in sorted(self.lost.items())}
        seconds = {name: float(np.median(v)) for name, v in sorted(self.seconds.items())}
        read = {"judged": self.judged, "planted": self.read_before, "cleaned": self.read_after}
        return {"recall (tokens, none left, mean share of ink left)": recall,
                "tissue blanked on clean images (images, mean, worst)": lost,
                "seconds per image": seconds, "tesseract reads": read, "failures": self.failures}  # fmt: skip


def run_stills(images: Iterator[tuple[str, np.ndarray, Dataset]], count: int, tally: Tally, seed: int) -> None:
    """Plant on stills, in grey and (every other image) in colour, and judge."""
    rng = np.random.default_rng(seed)
    queue = conditions(rng, count * PER_IMAGE, ("tissue", "tissue", "dark", "outside"))
    for number, (source, pixels, header) in enumerate(images):
        if number % 2:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        measure_loss(source, pixels, header, tally)
        chosen = queue[number * PER_IMAGE : (number + 1) * PER_IMAGE]
        before, planted = plant_several(pixels, header, chosen, rng)
        cleaned = PixelCleaner(header).clean(before).pixels
        for ink in planted:
            tally.judge(source, ink, before, cleaned)


def measure_loss(source: str, pixels: np.ndarray, header: Dataset, tally: Tally) -> None:
    """Measure, on an image as it is, bright pixels of the ultrasound that the text detector and the hull blank."""
    begin = time.perf_counter()
    plain = PixelCleaner(header, ocr=False).clean(pixels)
    middle = time.perf_counter()
    full = PixelCleaner(header).clean(pixels)
    tally.seconds[f"{source} without OCR"].append(middle - begin)
    tally.seconds[f"{source} with OCR"].append(time.perf_counter() - middle)
    tissue = _bright(plain.pixels)
    tally.lost[f"{source} by text"].append(float((tissue & ~_bright(full.pixels)).sum() / max(1, tissue.sum())))
    everything = _bright(pixels)
    tally.lost[f"{source} by sector"].append(float((everything & ~tissue).sum() / max(1, everything.sum())))


def run_clips(count: int, frames: int, tally: Tally, seed: int) -> None:
    """Plant on made clips whose speckle changes: a static token, and one that moves in the later half."""
    rng = np.random.default_rng(seed)
    queue = conditions(rng, 2 * count, ("tissue",))
    for number in range(count):
        clip, header = make_clip(number, frames)
        tally_clip(clip, header, queue[2 * number : 2 * number + 2], tally, rng)


def make_clip(number: int, frames: int) -> tuple[list[np.ndarray], Dataset]:
    """Return a clip of one scene with fresh speckle in each frame."""
    scanner = device(("curved-a", "curved-b")[number % 2])
    plane = list(PLANE_WORDS[scanner.name].values())[number % 4]
    scene = make_scene(plane, 24, np.random.default_rng(number))
    pictures = [image_scene(scene, scanner, np.random.default_rng((number, i))) for i in range(frames)]
    return [p.pixels for p in pictures], region_header(pictures[0].pixels.shape, pictures[0].region)


def tally_clip(clip: list[np.ndarray], header: Dataset, chosen: list, tally: Tally, rng: np.random.Generator) -> None:
    """Plant into all frames (static) and into single frames at changing places (moving); clean and judge all."""
    static_before, static = plant_several(clip[0], header, chosen[:1], rng)
    drawn = []
    for number, frame in enumerate(clip):
        before, planted = frame, []
        if static:
            shown = static_before[static[0].ink]
            before = frame.copy()
            before[static[0].ink] = shown
            planted.append(("clip static", static[0]))
        if number % 3 == 1:
            before, moving = plant_several(before, header, chosen[1:], rng)
            planted.extend(("clip moving", ink) for ink in moving)
        drawn.append((before, planted))
    cleaner = PixelCleaner(header)
    cleaner.prepare([drawn[i][0] for i in sorted({0, len(drawn) // 4, len(drawn) // 2, 3 * len(drawn) // 4})])
    for before, planted in drawn:
        begin = time.perf_counter()
        cleaned: Cleaned = cleaner.clean(before)
        tally.seconds["clip frame"].append(time.perf_counter() - begin)
        for source, ink in planted:
            tally.judge(source, ink, before, cleaned.pixels)


def _bright(pixels: np.ndarray) -> np.ndarray:
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=-1)
    return grey > 12


def main() -> None:
    """Run and print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="per source")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sources", default="phantom,hc18,african,barcelona")
    arguments = parser.parse_args()
    tally = Tally(shutil.which("tesseract") is not None)
    data = os.environ.get("FETALFLEX_DATA")
    for name in arguments.sources.split(","):
        if name == "phantom":
            images = phantom_images(arguments.images)
        elif data:
            images = public_images(Path(data), name, arguments.images)
        else:
            continue
        run_stills(images, arguments.images, tally, arguments.seed)
    run_clips(arguments.clips, arguments.frames, tally, arguments.seed)
    print(json.dumps(tally.report(), indent=1))


if __name__ == "__main__":
    main()
