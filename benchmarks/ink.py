"""Plant ink on ultrasound images and judge, without the code that blanks, whether any of it is left.

Sources: the embedded phantom; with FETALFLEX_DATA also the public sets and real DICOM. At every planted rectangle each
pixel of ink (known exactly) must be changed or blank in the output; tesseract, where it is installed, reads the
rectangle and its surroundings, and must not find the planted token. On the clean images, the share of tissue that is
blanked for nothing is measured, and the seconds. Methods are tuned on `--split dev` and reported on `held-out`.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset
from scipy import ndimage

from benchmarks.ink_images import FAR, SPLITS, images_of, make_clip
from benchmarks.planting import CONTRASTS, Planted, areas, conditions, plant, token
from fetalflex.deid.file import SAMPLES
from fetalflex.deid.pixels import Cleaned, PixelCleaner
from fetalflex.dicom.read import frame_numbers
from fetalflex.dicom.region import read_regions
from fetalflex.errors import QuarantineError

PER_IMAGE = 4
CURVE = ("15", "20", "25", "30", "40", "50", "60", "75", "90")  # grey levels above the mean of what lies under the ink


def plant_several(
    pixels: np.ndarray, header: Dataset, chosen: list, rng: np.random.Generator, split: str = "dev"
) -> tuple[np.ndarray, list[Planted]]:
    """Return the image with a token for each condition that finds its place, and what was planted."""
    regions = read_regions(header)
    box = regions[0] if regions else (0, 0, pixels.shape[1], pixels.shape[0])
    free = dict(areas(pixels if pixels.ndim == 2 else pixels.max(axis=-1), box))
    planted: list[Planted] = []
    for condition in chosen:
        drawn = plant(pixels, free[condition.place], condition, token(rng, split), rng)
        if drawn is not None:
            pixels, ink = drawn
            planted.append(ink)
            near = ndimage.binary_dilation(ink.ink, iterations=12)
            free = {name: area & ~near for name, area in free.items()}
    return pixels, planted


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share. Source: Wilson, J. Am. Stat. Assoc. 22, 1927."""
    z2 = 1.96**2
    middle = (hits + z2 / 2) / (count + z2)
    half = 1.96 / (count + z2) * np.sqrt(hits * (count - hits) / count + z2 / 4)
    return round(float(middle - half), 4), round(float(middle + half), 4)


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
        self.refused: Counter[str] = Counter()

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
        recall = {}
        for (name, value), left in sorted(self.rows.items()):
            gone = sum(share == 0 for share in left)
            recall[f"{name} {value}"] = [gone, len(left), *wilson(gone, len(left))]
        lost = {name: [len(v), float(np.mean(v)), float(np.max(v))] for name, v in sorted(self.lost.items())}
        seconds = {name: float(np.median(v)) for name, v in sorted(self.seconds.items())}
        read = {"judged": self.judged, "planted": self.read_before, "cleaned": self.read_after}
        return {"tokens with no ink left, of, 95 % interval": recall,
                "tissue blanked on clean images (images, mean, worst)": lost,
                "processor seconds per image (median)": seconds,
                "refused: tokens, or clean images": dict(self.refused),
                "tesseract reads": read, "failures": self.failures}  # fmt: skip


def run_stills(name: str, arguments: argparse.Namespace, data: Path | None, tally: Tally) -> None:
    """Plant on stills of a source, in grey and (every other image) in colour, and judge."""
    # A string's hash() changes from run to run; its bytes do not.
    rng = np.random.default_rng([FAR * SPLITS[arguments.split] + arguments.seed, *name.encode()])
    places = ("tissue",) if arguments.curve else ("tissue", "tissue", "dark", "outside")
    places = places if name in ("phantom", "us_dicom") else places[:3]
    contrasts = CURVE if arguments.curve else CONTRASTS
    queue = conditions(rng, arguments.images * PER_IMAGE, places, arguments.split, contrasts)
    if arguments.curve:
        queue = [replace(condition, style="plain") for condition in queue]
    for number, (source, pixels, header) in enumerate(images_of(name, data, arguments.split, arguments.images)):
        if number % 2 and pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        measure_loss(source, pixels, header, tally)
        chosen = queue[number * PER_IMAGE : (number + 1) * PER_IMAGE]
        before, planted = plant_several(pixels, header, chosen, rng, arguments.split)
        try:
            cleaned = PixelCleaner(header).clean(before).pixels
        except QuarantineError as error:
            tally.refused[f"{source}: {error.reason}"] += len(planted)
            continue
        for ink in planted:
            tally.judge(source, ink, before, cleaned)


def measure_loss(source: str, pixels: np.ndarray, header: Dataset, tally: Tally) -> None:
    """Measure, on an image as it is, bright pixels of the ultrasound that the text detector and the hull blank."""
    begin = time.process_time()
    plain = PixelCleaner(header, ocr=False).clean(pixels)
    middle = time.process_time()
    try:
        full = PixelCleaner(header).clean(pixels)
    except QuarantineError as error:
        tally.refused[f"{source}, clean: {error.reason}"] += 1
        return
    tally.seconds[f"{source} without OCR"].append(middle - begin)
    tally.seconds[f"{source} with OCR"].append(time.process_time() - middle)
    tissue = _bright(plain.pixels)
    tally.lost[f"{source} by text"].append(float((tissue & ~_bright(full.pixels)).sum() / max(1, tissue.sum())))
    everything = _bright(pixels)
    tally.lost[f"{source} by sector"].append(float((everything & ~tissue).sum() / max(1, everything.sum())))


def run_clips(arguments: argparse.Namespace, tally: Tally) -> None:
    """Plant on made clips whose speckle changes: a static token, and one that moves in the later half."""
    first = FAR * SPLITS[arguments.split]
    rng = np.random.default_rng(first + arguments.seed)
    queue = conditions(rng, 2 * arguments.clips, ("tissue",), arguments.split)
    for number in range(arguments.clips):
        clip, header = make_clip(first + number, arguments.frames)
        tally_clip(clip, header, queue[2 * number : 2 * number + 2], tally, rng, arguments.split)


def tally_clip(
    clip: list[np.ndarray], header: Dataset, chosen: list, tally: Tally, rng: np.random.Generator, split: str
) -> None:
    """Plant into all frames (static) and into single frames at changing places (moving); clean and judge all."""
    static_before, static = plant_several(clip[0], header, chosen[:1], rng, split)
    drawn = []
    for number, frame in enumerate(clip):
        before, planted = frame, []
        if static:
            shown = static_before[static[0].ink]
            before = frame.copy()
            before[static[0].ink] = shown
            planted.append(("clip static", static[0]))
        if number % 3 == 1:
            before, moving = plant_several(before, header, chosen[1:], rng, split)
            planted.extend(("clip moving", ink) for ink in moving)
        drawn.append((before, planted))
    cleaner = PixelCleaner(header)
    cleaner.prepare([drawn[i][0] for i in frame_numbers(len(drawn), SAMPLES)])
    for before, planted in drawn:
        begin = time.process_time()
        try:
            cleaned: Cleaned = cleaner.clean(before)
        except QuarantineError as error:
            tally.refused[f"clip: {error.reason}"] += len(planted)
            continue
        tally.seconds["clip frame"].append(time.process_time() - begin)
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
    parser.add_argument("--split", choices=list(SPLITS), default="held-out")
    parser.add_argument(
        "--curve", action="store_true", help="many contrasts, plain letters, over tissue only, no clips"
    )
    parser.add_argument("--sources", default="phantom,hc18,african,barcelona,us_dicom")
    arguments = parser.parse_args()
    tally = Tally(shutil.which("tesseract") is not None and not arguments.curve)
    folder = os.environ.get("FETALFLEX_DATA")
    for name in arguments.sources.split(","):
        run_stills(name, arguments, Path(folder) if folder else None, tally)
    if not arguments.curve:
        run_clips(arguments, tally)
    print(json.dumps(tally.report(), indent=1))


if __name__ == "__main__":
    main()
