"""Precision and recall of calipers on real images, whose crosses and dotted lines a person marked by eye.

`calipers.csv` beside this file holds the marks, in pixels: `cross` (its centre), `line` (its ends; those along a
femur bend a little), `ellipse` (the ends of one axis and a third point), `none` (looked at, no caliper). Of images
named UGA the right margin was not marked: they count for recall alone. FETALFLEX_DATA must hold african_planes.
"""

import argparse
import csv
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.ink import wilson
from benchmarks.ink_images import region_header
from fetalflex.deid.pixels import PixelCleaner

TABLE = Path(__file__).with_name("calipers.csv")
CROSS_REACH_PX, LINE_REACH_PX = 8, 12  # between what was marked by eye and what is found
STEP_PX = 4.0  # along a marked line or ellipse


def read_marks(table: Path = TABLE) -> dict[str, list[tuple[str, list[float]]]]:
    """Return kind and coordinates of the marks of each image."""
    marks = defaultdict(list)
    with table.open() as lines:
        for row in csv.DictReader(lines):
            numbers = [float(row[n]) for n in ("x0", "y0", "x1", "y1", "x2", "y2") if row[n]]
            marks[row["image"]].append((row["kind"], numbers))
    return dict(marks)


def trace(kind: str, numbers: list[float]) -> np.ndarray:
    """Return points (x, y) along a mark, [N, 2]."""
    first, last = np.array(numbers[:2]), np.array(numbers[2:4])
    if kind == "cross":
        return first[None]
    if kind == "line":
        count = max(2, round(float(np.hypot(*(last - first))) / STEP_PX))
        return first + np.linspace(0, 1, count)[:, None] * (last - first)
    half = (last - first) / 2
    long = float(np.hypot(*half))
    along = half / long
    across = np.array([-along[1], along[0]])
    third = np.array(numbers[4:6]) - (first + last) / 2
    # The third point lies on the ellipse: (p / long)^2 + (q / short)^2 = 1.
    short = abs(float(third @ across)) / np.sqrt(max(0.05, 1 - (float(third @ along) / long) ** 2))
    angle = np.linspace(0, 2 * np.pi, round(np.pi * (long + short) / STEP_PX))[:, None]
    return (first + last) / 2 + long * np.cos(angle) * along + short * np.sin(angle) * across


def judge(image: Path, marks: list[tuple[str, list[float]]], tally: dict[str, list[float]]) -> None:
    """Find the calipers of an image; count which marks are covered and which finds touch a mark."""
    pixels = np.asarray(Image.open(image).convert("L"))
    cleaned = PixelCleaner(region_header(pixels.shape, None)).clean(pixels)
    found = [m.box for m in cleaned.marks if m.kind == "caliper"]
    covered = np.zeros(pixels.shape, bool)
    for x0, y0, x1, y1 in [m.box for m in cleaned.marks]:
        covered[y0:y1, x0:x1] = True
    crosses = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in found]
    near = ndimage.binary_dilation(covered, iterations=LINE_REACH_PX)
    truth = np.ones(pixels.shape, bool)
    center = image.name.split("_")[1]
    for kind, numbers in marks:
        if kind == "none":
            continue
        points = trace(kind, numbers)
        xs, ys = (np.clip(points.round().astype(int), 0, np.array(pixels.shape[::-1]) - 1)).T
        truth[ys, xs] = False
        if kind == "cross":
            x, y = points[0]
            hit = any(abs(x - a) <= CROSS_REACH_PX and abs(y - b) <= CROSS_REACH_PX for a, b in crosses)
            tally[f"{center} cross"].append(float(hit))
            tally[f"{center} cross left out of training"].append(float(near[ys, xs].any()))
        else:
            tally[f"{center} {kind}, share of its length"].append(float(near[ys, xs].mean()))
    if center != "UGA":
        away = np.asarray(ndimage.distance_transform_edt(truth))
        for x0, y0, x1, y1 in found:
            real = not truth.all() and float(away[y0:y1, x0:x1].min()) <= LINE_REACH_PX
            tally["finds that touch a mark"].append(float(real))
        tally["share of the picture within finds of images without calipers"].extend(
            [float(covered.mean())] if truth.all() else []
        )


def main() -> None:
    """Run on all marked images and print the figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = Path(os.environ["FETALFLEX_DATA"]) / "african_planes" / "images"
    tally: dict[str, list[float]] = defaultdict(list)
    table = read_marks()
    for name, marks in table.items():
        judge(folder / name, marks, tally)
    report: dict[str, object] = {"images": len(table)}
    for name, values in sorted(tally.items()):
        if "share" in name:
            report[name] = {"of": len(values), "mean": round(float(np.mean(values)), 4)}
        else:
            hits = int(sum(values))
            report[name] = {"hits": hits, "of": len(values), "interval": wilson(hits, len(values))}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
