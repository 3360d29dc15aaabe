"""Ink on ultrasound images at known places: the text, its exact pixels, and the condition it was drawn under."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT_FOLDER = Path("/usr/share/fonts/truetype")
DEJAVU, LIBERATION = "dejavu/DejaVu", "liberation/Liberation"
FACES = {
    "dev": ("default", f"{DEJAVU}Sans.ttf", f"{DEJAVU}Sans-Bold.ttf", f"{DEJAVU}SansMono.ttf", f"{DEJAVU}Serif.ttf"),
    "held-out": ("default", f"{DEJAVU}Sans.ttf", f"{DEJAVU}SansCondensed.ttf", f"{LIBERATION}Sans-Regular.ttf",
                 f"{LIBERATION}Sans-Bold.ttf", f"{LIBERATION}Mono-Regular.ttf", f"{LIBERATION}Serif-Regular.ttf"),
}  # fmt: skip
SIZES = (10, 14, 20, 28, 40)
COLOURS = {"white": (255, 255, 255), "yellow": (255, 230, 40), "green": (60, 255, 60), "grey": (170, 170, 170)}
CONTRASTS = ("full", "medium", "low")
ABOVE = {"medium": 90, "low": 50}  # grey levels between the ink and the mean of what lies under it
STYLES = ("plain", "outline", "box", "shadow")
NAMES = {
    "dev": (("HAUGLAND", "Brattvoll", "Lindeskov", "QUEIROZ", "Figueira", "Okonjo", "TAMIMI", "Varga", "Sorrento"),
            ("Ingrid", "SOLVEIG", "Marta", "Beatriz", "AMINA", "Yara", "Clara", "Noor")),
    "held-out": (("Kjelstad", "MWANGI", "Petrescu", "Oliveira", "DUBOIS", "Halvorsen", "Rahman", "ZIEGLER", "Castillo"),
                 ("Liv", "ESTHER", "Paula", "Fatou", "Hanne", "RUTH", "Sofia", "Wanjiru")),
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """How a token is drawn; `place`: `tissue` (bright), `dark` (in the region, no echo) or `outside` of the region.

    `contrast`: a name, or grey levels between the ink and the mean of what lies under it.
    """

    face: str
    size_px: int
    colour: str
    contrast: str
    style: str
    place: str


@dataclass(frozen=True, eq=False)
class Planted:
    """Ink in an image: `box` (x0, y0, x1, y1) exclusive; `ink` bool [H, W], true where a pixel's value was changed."""

    text: str
    box: tuple[int, int, int, int]
    ink: np.ndarray
    condition: Condition


def conditions(
    rng: np.random.Generator,
    count: int,
    places: tuple[str, ...],
    split: str = "dev",
    contrasts: tuple[str, ...] = CONTRASTS,
) -> list[Condition]:
    """Return `count` conditions in which each value of each factor is as frequent as every other."""
    faces = tuple(f for f in FACES[split] if f == "default" or (FONT_FOLDER / f).is_file())
    factors = (faces, SIZES, tuple(COLOURS), contrasts, STYLES, places)
    columns = []
    for values in factors:
        column = [v for _, v in zip(range(count), itertools.cycle(values), strict=False)]
        columns.append([column[i] for i in rng.permutation(count)])
    return [Condition(*row) for row in zip(*columns, strict=True)]


def token(rng: np.random.Generator, split: str = "dev") -> str:
    """Return an invented name, record number or date."""
    surnames, given = NAMES[split]
    kind = int(rng.integers(4))
    if kind == 0:
        return f"{rng.choice(surnames)} {rng.choice(given)}"
    if kind == 1:
        return f"ID {rng.integers(10**6, 10**7)}"
    if kind == 2:
        return f"{rng.integers(10, 29)}.{rng.integers(10, 13)}.{rng.integers(1961, 2004)}"
    return f"{rng.choice(surnames)}, {rng.integers(10**5, 10**6)}"


def plant(
    pixels: np.ndarray, where: np.ndarray, condition: Condition, text: str, rng: np.random.Generator
) -> tuple[np.ndarray, Planted] | None:
    """Return the image with the text drawn into the area `where` (bool [H, W]), or None where it does not fit.

    pixels: uint8 [H, W] or [H, W, 3]. A place is taken where at least 95 % of the text's rectangle lies in `where`.
    """
    font = load_font(condition.face, condition.size_px)
    pad = 4 if condition.style != "plain" else 0
    left, top, right, bottom = (int(v) for v in ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, font))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    corner = _find_place(where, (width, height), rng)
    if corner is None:
        return None
    x, y = corner
    box = (x, y, x + width, y + height)
    under = float(pixels[y : y + height, x : x + width].mean())
    fill = _shade(COLOURS[condition.colour], condition.contrast, under)
    canvas = Image.fromarray(pixels)
    if pixels.ndim == 2:
        fill = round(0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2])
    _draw(canvas, (x + pad - left, y + pad - top), text, font, fill, condition.style, box)
    after = np.asarray(canvas)
    ink = after != pixels
    ink = ink.any(axis=-1) if ink.ndim == 3 else ink
    ys, xs = np.nonzero(ink)
    if not ys.size:
        return None
    tight = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    return after, Planted(text, tight, ink, condition)


def load_font(face: str, size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font by its file name, or Pillow's own."""
    if face == "default":
        return ImageFont.load_default(size_px)
    return ImageFont.truetype(str(FONT_FOLDER / face), size_px)


def _draw(canvas, origin, text, font, fill, style, box) -> None:
    draw = ImageDraw.Draw(canvas)
    black = 0 if canvas.mode == "L" else (0, 0, 0)
    if style == "box":
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=black)
    if style == "shadow":
        draw.text((origin[0] + 2, origin[1] + 2), text, fill=black, font=font)
    stroke = {"stroke_width": 1, "stroke_fill": black} if style == "outline" else {}
    draw.text(origin, text, fill=fill, font=font, **stroke)


def _shade(colour: tuple[int, int, int], contrast: str, under: float) -> tuple[int, int, int]:
    """Return the colour at the wanted distance from what lies under it; darker than it where it cannot be brighter."""
    if contrast == "full":
        return colour
    above = ABOVE[contrast] if contrast in ABOVE else int(contrast)
    level = under + above
    if level > 255:
        level = under - above
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    red, green, blue = (round(min(255.0, max(0.0, c * level / luma))) for c in colour)
    return red, green, blue


def _find_place(where: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int] | None:
    width, height = size
    if height >= where.shape[0] or width >= where.shape[1]:
        return None
    total = np.pad(where.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    ys, xs = np.nonzero(inside >= 0.95 * width * height)
    if not ys.size:
        return None
    pick = int(rng.integers(ys.size))
    return int(xs[pick]), int(ys[pick])


def areas(grey: np.ndarray, region: tuple[int, int, int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the areas of an image by name: bright tissue, dark within the region, outside of the region."""
    from scipy import ndimage

    inside = np.zeros(grey.shape, bool)
    inside[region[1] : region[3], region[0] : region[2]] = True
    level = ndimage.uniform_filter(grey.astype(np.float32), 15)
    yield "tissue", inside & (level > 30)
    yield "dark", inside & (level <= 30)
    yield "outside", ~inside
