"""Ink of kinds that `benchmarks.ink` does not plant, judged in the same way, a row for each kind.

Upright text, very small fonts, hollow, unsmoothed and see-through letters, dark ones on bright tissue, other scripts,
logos, text across the sector's edge; text on a picture that was compressed or scaled after it was written, in stills
and in clips. `--split dev` is what a method is tuned on, `held-out` what it is reported on.
"""

import argparse
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.ink import Tally
from benchmarks.ink_images import FAR, SPLITS, images_of, make_clip
from benchmarks.planting import FACES, FONT_FOLDER, Condition, Planted, areas, load_font, token
from fetalflex.deid.file import SAMPLES
from fetalflex.deid.pixels import PixelCleaner
from fetalflex.dicom.read import frame_numbers

ABOVE = (50, 90, 140)  # grey levels between the ink and the mean of what lies under it
SIZES = (12, 16, 22, 30)
SEEN = 8  # grey levels by which a pixel differs for its ink, where the picture is changed after it was written
WORDS = {
    "accents": ("Åse Grønvoldšt", "Łucja Żółć", "José Muñoz", "Zoë Çelik", "Šárka Dvořák"),
    "Cyrillic": ("Олена Шевчук", "Наталья Ким", "ИВАНОВА 1983"),
    "Greek": ("Ελένη Παππά", "ΜΑΡΙΑ ΖΩΗ", "Σοφία Ρήγα"),
    "Arabic letters": ("فاطمة علي", "مريم حسن", "زينب كريم"),
    "Hebrew": ("שרה כהן", "רבקה לוי", "מרים אדלר"),
    "Chinese": ("王小红 三十岁", "李秀英", "陈美玲 二号"),
}
CHINESE = "droid/DroidSansFallbackFull.ttf"
UNICODE = "dejavu/DejaVuSans.ttf"


@dataclass(frozen=True)
class Kind:
    """How ink of a kind differs from plain text in one brightness."""

    sizes: tuple[int, ...] = SIZES
    above: tuple[int, ...] = ABOVE
    words: str = ""
    turned: int = 0
    hollow: bool = False
    smooth: bool = True
    opacity: float = 1.0
    logo: bool = False
    edge: bool = False
    after: Callable[[np.ndarray], np.ndarray] | None = None


def compress(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what a JPEG of that quality makes of a picture."""

    def through(pixels: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream))

    return through


def scale(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a picture in another size."""

    def scaled(pixels: np.ndarray) -> np.ndarray:
        size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))

    return scaled


KINDS = {
    "plain": Kind(),
    "upright": Kind(turned=90),
    "downwards": Kind(turned=270),
    "aslant (15 degrees)": Kind(turned=15),
    "7 px": Kind(sizes=(7,)),
    "8 px": Kind(sizes=(8,)),
    "60 px": Kind(sizes=(60,)),
    "hollow letters": Kind(sizes=(16, 22, 30), hollow=True),
    "unsmoothed": Kind(smooth=False),
    "see-through (60 %)": Kind(opacity=0.6),
    "dark": Kind(above=(-50, -90, -140)),
    "logo": Kind(sizes=(14, 20), logo=True),
    "across the edge": Kind(edge=True),
    **{name: Kind(words=name) for name in WORDS},
    "JPEG 95": Kind(after=compress(95)),
    "JPEG 85": Kind(after=compress(85)),
    "JPEG 70": Kind(after=compress(70)),
    "shrunk to 75 %": Kind(sizes=(16, 22, 30), after=scale(0.75)),
    "enlarged to 130 %": Kind(after=scale(1.3)),
}
CLIPS = {"plain": Kind(), "see-through (60 %)": Kind(opacity=0.6), "dark": Kind(above=(-50, -90)),
         "upright": Kind(turned=90), "JPEG 85": Kind(after=compress(85))}  # fmt: skip


def glyphs(text: str, face: str, size: int, kind: Kind) -> np.ndarray:
    """Return how much of each pixel the text covers, float [h, w] in [0, 1]."""
    font = load_font(face, size)
    left, top, right, bottom = (int(v) for v in ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, font))
    canvas = Image.new("L", (right - left + 8, bottom - top + 8))
    draw = ImageDraw.Draw(canvas)
    draw.fontmode = "L" if kind.smooth else "1"
    if kind.hollow:
        draw.text((4 - left, 4 - top), text, fill=0, stroke_width=1, stroke_fill=255, font=font)
    else:
        draw.text((4 - left, 4 - top), text, fill=255, font=font)
    if kind.logo:
        side = canvas.width + 2 * size
        ring = Image.new("L", (side, side))
        ring.paste(canvas, (size, (side - canvas.height) // 2))
        ImageDraw.Draw(ring).ellipse((2, 2, side - 3, side - 3), outline=255, width=3)
        canvas = ring
    if kind.turned:
        canvas = canvas.rotate(kind.turned, Image.Resampling.BICUBIC if kind.turned % 90 else 0, expand=True)
    return np.asarray(canvas.crop(canvas.getbbox()), dtype=np.float64) / 255


def find_place(
    where: np.ndarray, shape: tuple[int, int], edge: bool, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return the corner (y, x) of a rectangle that lies within an area, or across its edge."""
    height, width = shape
    if height >= where.shape[0] or width >= where.shape[1]:
        return None
    total = np.pad(where.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    share = inside / (height * width)
    ys, xs = np.nonzero((share > 0.3) & (share < 0.7) if edge else share >= 0.95)
    if not ys.size:
        return None
    pick = int(rng.integers(ys.size))
    return int(ys[pick]), int(xs[pick])


@dataclass(frozen=True, eq=False)
class Drawing:
    """Ink of a kind in one grey level, at its place."""

    kind: Kind
    condition: Condition
    text: str
    cover: np.ndarray
    corner: tuple[int, int]
    level: float

    def draw(self, pixels: np.ndarray) -> tuple[np.ndarray, Planted]:
        """Return a picture [H, W] with the ink, and where it is."""
        y, x = self.corner
        height, width = self.cover.shape
        under = pixels[y : y + height, x : x + width].astype(np.float64)
        after = pixels.copy()
        blend = under + self.kind.opacity * self.cover * (self.level - under)
        after[y : y + height, x : x + width] = blend.round().astype(np.uint8)
        ink = after != pixels
        if self.kind.after is not None:
            pixels, after = self.kind.after(pixels), self.kind.after(after)
            seen = np.abs(after.astype(np.int16) - pixels) > SEEN
            ink = seen if ink.shape != seen.shape else seen & ndimage.binary_dilation(ink)
        ys, xs = np.nonzero(ink)
        box = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
        return after, Planted(self.text, box, ink, self.condition)


def compose(
    pixels: np.ndarray, where: np.ndarray, kind: Kind, said: tuple[Condition, str], rng: np.random.Generator
) -> Drawing | None:
    """Return a drawing whose level follows from what lies under it; None where it finds no place in `where`."""
    condition, text = said
    cover = glyphs(text, condition.face, condition.size_px, kind)
    corner = find_place(where, cover.shape, kind.edge, rng)
    if corner is None:
        return None
    mean = float(pixels[corner[0] :, corner[1] :][: cover.shape[0], : cover.shape[1]].mean())
    level = mean + float(condition.contrast)
    level = level if 4 <= level <= 255 else mean - float(condition.contrast)
    return Drawing(kind, condition, text, cover, corner, float(np.clip(level, 4, 255)))


def conditions(name: str, kind: Kind, split: str, rng: np.random.Generator) -> Iterator[tuple[Condition, str]]:
    """Yield conditions of a kind without end, and what is written."""
    faces = [f for f in FACES[split] if f == "default" or (FONT_FOLDER / f).is_file()]
    while True:
        face, size = str(rng.choice(faces)), int(rng.choice(kind.sizes))
        text = token(rng, split)
        if kind.words:
            face, text = CHINESE if kind.words == "Chinese" else UNICODE, str(rng.choice(WORDS[kind.words]))
        if kind.logo:
            text = text.split()[0][:6]
        yield Condition(face, size, "grey", str(int(rng.choice(kind.above))), name, "tissue"), text


def run_stills(name: str, kind: Kind, arguments: argparse.Namespace, tally: Tally) -> None:
    """Write one token of a kind on each of some images of every source; clean and judge."""
    folder = os.environ.get("FETALFLEX_DATA")
    rng = np.random.default_rng([FAR * SPLITS[arguments.split] + arguments.seed, *name.encode()])
    queue = conditions(name, kind, arguments.split, rng)
    for source in arguments.sources.split(","):
        for _, pixels, header in images_of(source, Path(folder) if folder else None, arguments.split, arguments.images):
            where = dict(areas(pixels, (0, 0, pixels.shape[1], pixels.shape[0])))["tissue"]
            drawing = compose(pixels, where, kind, next(queue), rng)
            if drawing is None:
                continue
            before, ink = drawing.draw(pixels)
            if before.shape != pixels.shape and header.get("SequenceOfUltrasoundRegions"):
                del header.SequenceOfUltrasoundRegions
            header.Rows, header.Columns = before.shape
            tally.judge("stills", ink, before, PixelCleaner(header).clean(before).pixels)


def run_clips(name: str, kind: Kind, arguments: argparse.Namespace, tally: Tally) -> None:
    """Write one static token of a kind on each frame of made clips; clean and judge."""
    rng = np.random.default_rng([FAR * SPLITS[arguments.split] + arguments.seed, 1, *name.encode()])
    queue = conditions(name, kind, arguments.split, rng)
    for number in range(arguments.clips):
        clip, header = make_clip(FAR * SPLITS[arguments.split] + 50 + number, arguments.frames)
        where = dict(areas(clip[0], (0, 0, clip[0].shape[1], clip[0].shape[0])))["tissue"]
        drawing = compose(clip[0], where, kind, next(queue), rng)
        if drawing is None:
            continue
        drawn = [drawing.draw(frame) for frame in clip]
        cleaner = PixelCleaner(header)
        cleaner.prepare([drawn[i][0] for i in frame_numbers(len(drawn), SAMPLES)])
        for before, ink in drawn:
            tally.judge("clips", ink, before, cleaner.clean(before).pixels)


def main() -> None:
    """Run and print, for each kind: tokens without ink left, of planted, 95 % interval; what tesseract read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6, help="per source and kind")
    parser.add_argument("--clips", type=int, default=6, help="per kind")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=list(SPLITS), default="held-out")
    parser.add_argument("--sources", default="phantom,hc18,african,barcelona")
    parser.add_argument("--kinds", help="names, divided by semicolons; default: all")
    arguments = parser.parse_args()
    chosen = arguments.kinds.split(";") if arguments.kinds else None
    report = {}
    for run, kinds, what in ((run_stills, KINDS, "stills"), (run_clips, CLIPS, "clips")):
        for name, kind in kinds.items():
            if chosen and name not in chosen:
                continue
            tally = Tally(shutil.which("tesseract") is not None)
            run(name, kind, arguments, tally)
            said = tally.report()
            report[f"{what}: {name}"] = {
                "gone": said["tokens with no ink left, of, 95 % interval"].get("all all"),
                "tesseract": said["tesseract reads"], "failures": said["failures"],
            }  # fmt: skip
            print(what, name, report[f"{what}: {name}"]["gone"], said["tesseract reads"], flush=True)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
