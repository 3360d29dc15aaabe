"""How well are equal and nearly equal images found? On the public sets, on made variants, and at 100,000 hashes.

    FETALFLEX_DATA=... python benchmarks/duplicates.py [--sheet pairs.png] [--only sets|variants|scale]

Images are cut and shrunk as ingest does it (at most 512 pixels), without the way through DICOM. Each set (country) is a
center. `--sheet` draws all pairs that tie two patients, and the most alike of those that are not tied, to be looked at.
"""

import argparse
import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from fetalflex.artifacts import picture
from fetalflex.dicom.region import Calibration, choose_crop, fit_geometry
from fetalflex.errors import QuarantineError
from fetalflex.ingest.alike import compare, thumbnail
from fetalflex.ingest.duplicates import Limits, close_pairs, find_duplicates
from fetalflex.sources import public
from fetalflex.splits import assign_groups

SETS: dict[str, Callable[[Path], object]] = {
    "hc18": public.read_hc18,
    "barcelona_transventricular": public.read_barcelona_transventricular,
    "barcelona_planes": public.read_barcelona_planes,
    "african_planes": public.read_african_planes,
    "abnormal_brain": public.read_abnormal_brain,
}
SIDE, TILE, SHOWN = 512, 200, 24
LIMITS = Limits()


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, help="write the pairs as a picture (real images: keep it private)")
    parser.add_argument("--only", choices=("sets", "variants", "scale"))
    chosen = parser.parse_args()
    parts = (chosen.only,) if chosen.only else ("sets", "variants", "scale")
    if "sets" in parts or "variants" in parts:
        frames, names = read_sets(Path(os.environ["FETALFLEX_DATA"]))
        if "sets" in parts:
            measure_sets(frames, names, chosen.sheet)
        if "variants" in parts:
            measure_variants(frames)
    if "scale" in parts:
        measure_scale()


def read_sets(data: Path) -> tuple[pl.DataFrame, list[str]]:
    """Return all images as the columns that the finder reads, with `pixels_2d`, and their publishers' names."""
    rows, names = [], []
    for name, read in SETS.items():
        for item in read(data / name):  # type: ignore[attr-defined]
            with Image.open(item.path) as opened:
                grey = np.asarray(opened.convert("L"))
            try:
                crop = choose_crop(Calibration(None, item.spacing_mm), grey)
            except QuarantineError:
                continue
            pixels = fit_geometry(crop, item.spacing_mm, SIDE).image(grey)
            rows.append(
                {
                    "case_id": f"{len(rows):016}", "center": f"{name}-{item.group}".rstrip("-"),
                    "patient": f"{item.patient:>16}", "image": picture(pixels, f"{len(rows)}"),
                    "pixels": hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest(),
                    "phash": str(imagehash.phash(Image.fromarray(pixels))),
                }
            )  # fmt: skip
            names.append(item.path.stem)
    return pl.DataFrame(rows), names


def decoded(frames: pl.DataFrame, number: int) -> np.ndarray:
    """Return one image's pixels."""
    with Image.open(io.BytesIO(frames["image"][number]["bytes"])) as opened:
        return np.asarray(opened)


def measure_sets(frames: pl.DataFrame, names: list[str], sheet: Path | None) -> None:
    """Print what is found on the public sets, and how far apart what is tied and what is not lie."""
    start = time.process_time()
    found = find_duplicates(frames)
    spent = time.process_time() - start
    print(f"{len(frames)} images of {frames['center'].n_unique()} centers, {spent:.1f} s of a processor")
    print(found.group_by("kind", "same_center", "same_patient").len().sort("kind", "same_center", "same_patient"))
    centers = frames["center"].to_list()
    number = {(center, name): i for i, (center, name) in enumerate(zip(centers, names, strict=True))}
    pairs = {(int(a), int(b)) for a, b in found.select("case_a", "case_b").iter_rows()}
    first, second = "barcelona_transventricular", "barcelona_planes"
    shared = [(i, number[second, name]) for (center, name), i in number.items()
              if center == first and (second, name) in number]  # fmt: skip
    tied = components(len(frames), pairs)
    print(
        f"images of both Barcelona sets (same name): {len(shared)}, tied {sum(tied[i] == tied[j] for i, j in shared)}"
    )
    for name, table in (("exact copies only", None), ("with near duplicates", found)):
        splits = assign_groups(frames, 1, 0.2, 0.15, table)
        patients = splits.unique(["center", "patient"])
        moved = patients["moved_from"].count()
        print(f"{name}: {patients['tied_by'].count()} of {len(patients)} patients tied, {moved} moved")
    person = [(c.split("_")[0] if c.startswith("barcelona") else c, p.strip())
              for c, p in frames.select("center", "patient").iter_rows()]  # fmt: skip
    left, right, bits, alike = candidates(frames, LIMITS.distance)
    strangers = np.array([person[i] != person[j] for i, j in zip(left, right, strict=True)])
    for what, here in (("other persons by number", strangers), ("same person by number", ~strangers)):
        counts = np.histogram(alike[here], [-1, 0.3, 0.4, 0.45, 0.6, 0.75, 0.95, 1.01])[0]
        print(f"{what}: {here.sum()} candidates; correlation <.3 .3-.4 .4-.45 .45-.6 .6-.75 .75-.95 >.95: {counts}")
    wide = candidates(frames, 16)
    far = np.array([person[i] != person[j] for i, j in zip(wide[0], wide[1], strict=True)]) & (wide[3] < 0.6)
    print(
        f"of {far.sum()} pairs of strangers within 16 bits that are not tied, the highest correlation is "
        f"{wide[3][far].max():.2f}"
    )
    if sheet is not None:
        apart = np.nonzero(strangers & (alike < 0.999))[0]
        draw_sheet(frames, [(left[k], right[k], bits[k], alike[k]) for k in apart[np.argsort(-alike[apart])]], sheet)


def components(count: int, pairs: set[tuple[int, int]]) -> list[int]:
    """Return the smallest member of each image's connected component."""
    label = list(range(count))

    def root(i: int) -> int:
        while label[i] != i:
            i = label[i]
        return i

    for i, j in pairs:
        a, b = sorted((root(i), root(j)))
        label[b] = a
    return [root(i) for i in range(count)]


def candidates(frames: pl.DataFrame, distance: int) -> tuple[np.ndarray, ...]:
    """Return left, right, differing bits and correlation of all pairs of different pixels within `distance` bits."""
    hashes = np.array([int(text, 16) for text in frames["phash"]], np.uint64)
    left, right, bits = (np.concatenate(part) for part in zip(*close_pairs(hashes, distance), strict=True))
    pixels = frames["pixels"].to_numpy()
    other = pixels[left] != pixels[right]
    left, right, bits = left[other], right[other], bits[other]
    small = {n: thumbnail(decoded(frames, int(n))) for n in set(left) | set(right)}
    alike = [
        compare(np.stack([small[n] for n in left[at : at + 16]]), np.stack([small[n] for n in right[at : at + 16]]))
        for at in range(0, len(left), 16)
    ]
    return left, right, bits, np.concatenate([a.correlation for a in alike])


def draw_sheet(frames: pl.DataFrame, pairs: list[tuple[int, int, int, float]], path: Path) -> None:
    """Draw pairs side by side, the most alike first."""
    shown = pairs[:SHOWN]
    sheet = Image.new("L", (4 * (2 * TILE + 10), (len(shown) + 3) // 4 * (TILE + 24)))
    draw = ImageDraw.Draw(sheet)
    for place, (i, j, bits, alike) in enumerate(shown):
        x, y = place % 4 * (2 * TILE + 10), place // 4 * (TILE + 24)
        draw.text((x, y), f"{alike:.2f}, {bits} bits", fill=255)
        for side, number in enumerate((i, j)):
            sheet.paste(Image.fromarray(decoded(frames, int(number))).resize((TILE, TILE)), (x + side * TILE, y + 14))
    sheet.save(path)
    print(f"{path}: {len(shown)} of {len(pairs)} pairs of other persons, the most alike first")


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Return pixels after JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as opened:
        return np.asarray(opened)


def marked(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return pixels with four crosses and one blanked line of text."""
    drawn = Image.fromarray(pixels.copy())
    pen = ImageDraw.Draw(drawn)
    height, width = pixels.shape
    for x, y in random.uniform(0.2, 0.8, (4, 2)) * (width, height):
        pen.line((x - 6, y, x + 6, y), fill=255)
        pen.line((x, y - 6, x, y + 6), fill=255)
    x, y = random.uniform(0, 0.6) * width, random.uniform(0, 0.9) * height
    pen.rectangle((x, y, x + 0.3 * width, y + 0.06 * height), fill=0)
    return np.asarray(drawn)


def cropped(pixels: np.ndarray, most: float, random: np.random.Generator) -> np.ndarray:
    """Return pixels with up to `most` of the side cut off at each edge."""
    height, width = pixels.shape
    top, bottom, left, right = random.uniform(0, most, 4) * (height, height, width, width)
    return pixels[int(top) : height - int(bottom), int(left) : width - int(right)]


def measure_variants(frames: pl.DataFrame, count: int = 300) -> None:
    """Print how many of `count` images are found again after each change: by the hash, by the pixels, by both."""
    random = np.random.default_rng(0)
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "JPEG, quality 50": lambda p: jpeg(p, 50),
        "JPEG, quality 20": lambda p: jpeg(p, 20),
        "half the size": lambda p: np.asarray(Image.fromarray(p).resize((p.shape[1] // 2, p.shape[0] // 2))),
        "stretched to 640 x 640, JPEG 75": lambda p: jpeg(np.asarray(Image.fromarray(p).resize((640, 640))), 75),
        "gain 1.4": lambda p: (p * 1.4).clip(0, 255).astype(np.uint8),
        "gamma 0.6": lambda p: (255 * (p / 255) ** 0.6).astype(np.uint8),
        "gamma 1.6": lambda p: (255 * (p / 255) ** 1.6).astype(np.uint8),
        "calipers and a blanked text": lambda p: marked(p, random),
        "up to 2 % cut off each edge": lambda p: cropped(p, 0.02, random),
        "up to 5 % cut off each edge": lambda p: cropped(p, 0.05, random),
        "up to 10 % cut off each edge": lambda p: cropped(p, 0.10, random),
        "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    }
    pictures = [decoded(frames, int(n)) for n in np.sort(random.choice(len(frames), count, replace=False))]
    own = [imagehash.phash(Image.fromarray(p)) for p in pictures]
    print(f"{count} images | hash within {LIMITS.distance} bits | pixels above {LIMITS.correlation} | both")
    for name, change in changes.items():
        changed = [change(p) for p in pictures]
        near = np.array(
            [h - imagehash.phash(Image.fromarray(c)) <= LIMITS.distance for h, c in zip(own, changed, strict=True)]
        )
        pairs = np.stack([thumbnail(p) for p in pictures]), np.stack([thumbnail(c) for c in changed])
        alike = np.concatenate(
            [compare(pairs[0][i : i + 16], pairs[1][i : i + 16]).correlation for i in range(0, count, 16)]
        )
        same = alike >= LIMITS.correlation
        print(f"{name} | {near.mean():.3f} | {same.mean():.3f} | {(near & same).mean():.3f}")


def measure_scale() -> None:
    """Print processor seconds of the exact search over all pairs of hashes, and of one comparison on pixels."""
    random = np.random.default_rng(0)
    for count in (1_000, 10_000, 100_000):
        hashes = random.integers(0, 2**63, count).astype(np.uint64)
        start = time.process_time()
        pairs = sum(len(part[0]) for part in close_pairs(hashes, LIMITS.distance))
        print(f"{count} hashes: all pairs in {time.process_time() - start:.2f} s ({pairs} close by chance)")
    left, right = (random.integers(0, 255, (512, 96, 96), np.uint8) for _ in range(2))
    for name, other in (("strangers", right), ("copies", left)):
        start = time.process_time()
        for at in range(0, 512, 16):
            compare(left[at : at + 16], other[at : at + 16])
        print(f"pixels of {name}: {(time.process_time() - start) / 512 * 1e3:.2f} ms a pair")


if __name__ == "__main__":
    main()
