"""The public sets, each as its publisher laid it out, read into pictures with what is known of them.

Nothing is invented: a spacing, a device or an outline that a set does not state is absent.
Sources: HC18 (van den Heuvel et al. 2018, doi:10.5281/zenodo.1322001); FETAL_PLANES_DB (Burgos-Artizzu et al. 2020,
doi:10.5281/zenodo.3904280); trans-ventricular masks of the same; African planes (Sendra-Balcells et al. 2023,
doi:10.5281/zenodo.7540448).
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from fetalflex.errors import SourceError

Mask = npt.NDArray[np.bool_]
PixelBox = tuple[float, float, float, float]
MAX_XML = 2**20
TRANSVENTRICULAR = {"Brain": "head", "CSP": "csp", "LV": "lateral-ventricle"}
JPEG_640 = "JPEG, stretched to 640 x 640 pixels by its publisher"
FETAL_PLANE = {"brain": "Fetal brain", "thorax": "Fetal thorax", "abdomen": "Fetal abdomen", "femur": "Fetal femur"}


@dataclass(frozen=True)
class Marks:
    """Annotations of one picture in its pixels: masks bool [H, W] and boxes x0, y0, x1, y1 (exclusive) by structure."""

    masks: Mapping[str, Mask] = field(default_factory=dict)
    boxes: Mapping[str, list[PixelBox]] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """One image of a public set. `spacing_mm`: (row, column) mm per pixel or None; `marks` reads its annotations."""

    path: Path
    patient: str
    study: str
    series: str = ""
    group: str = ""  # of centers, where a set holds several
    manufacturer: str = ""
    model: str = ""
    spacing_mm: tuple[float, float] | None = None
    lossy: str = ""
    marks: Callable[[tuple[int, int]], Marks] = field(default=lambda _: Marks())


def read_hc18(source: Path) -> Iterator[Picture]:
    """Yield HC18's training images: pixel size from its table, the head's outline (one pixel wide) as a region.

    `012_2HC.png` is the second image of the patient of `012_HC.png`.
    """
    table = _table(source, "training_set_pixel_size_and_HC.csv", "filename", "pixel size(mm)")
    for row in table:
        name, spacing = row["filename"], float(row["pixel size(mm)"])
        path = source / "training_set" / name
        number = re.fullmatch(r"(\d+)_\d*HC\.png", name)
        if not path.is_file() or number is None:
            continue
        outline = path.with_name(path.stem + "_Annotation.png")
        marks = _Outline(outline) if outline.is_file() else (lambda _: Marks())
        yield Picture(path, f"HC18-{number[1]}", "Fetal head circumference", spacing_mm=(spacing, spacing), marks=marks)


def read_barcelona_transventricular(source: Path) -> Iterator[Picture]:
    """Yield the trans-ventricular planes with colour masks, and boxes for structures that have a box and no mask."""
    colours = _labelmap(source / "labelmap.txt")
    for path in sorted((source / "images").glob("*.png")):
        marks = _Coloured(source / "masks" / path.name, source / "boxes_voc" / f"{path.stem}.xml", colours)
        yield Picture(path, _barcelona_patient(path.name), "Fetal brain", "Trans-ventricular", marks=marks)


def read_barcelona_planes(source: Path) -> Iterator[Picture]:
    """Yield the common planes; spacing (it differs in x and y) where landmarks.csv states it."""
    spacings = {
        row["image"]: (float(row["mm_per_px_y"]), float(row["mm_per_px_x"]))
        for row in _table(source, "landmarks.csv", "image", "mm_per_px_x", "mm_per_px_y")
    }
    for row in _table(source, "labels.csv", "image", "patient", "plane", "brain_plane", "us_machine"):
        path = source / "images" / row["image"]
        if not path.is_file():
            continue
        brain = row["brain_plane"] if row["brain_plane"] not in ("", "Not A Brain", "Other") else ""
        maker = {"Aloka": "Aloka"}.get(row["us_machine"], "GE Healthcare" if "Voluson" in row["us_machine"] else "")
        yield Picture(
            path, _barcelona_patient(row["image"]), FETAL_PLANE.get(row["plane"], ""), brain, manufacturer=maker,
            model=row["us_machine"] if "Voluson" in row["us_machine"] else "", spacing_mm=spacings.get(row["image"]),
            lossy=JPEG_640,
        )  # fmt: skip


def read_african_planes(source: Path) -> Iterator[Picture]:
    """Yield the African planes; `group` is the country, because patient numbers repeat across countries."""
    for row in _table(source, "labels.csv", "Patient_num", "Plane", "Center", "Image_name"):
        path = source / "images" / f"{row['Image_name']}.png"
        if path.is_file():
            yield Picture(path, f"{row['Center']}-{row['Patient_num']}", row["Plane"], group=row["Center"].lower())


def read_abnormal_brain(source: Path) -> Iterator[Picture]:
    """Yield brains with named anomalies; the anomaly stands in the series description. No patient numbers are known."""
    for row in _table(source, "labels.csv", "image_name", "anomaly"):
        path = source / "images" / row["image_name"]
        if path.is_file():
            yield Picture(path, path.stem, "Fetal brain", row["anomaly"], lossy=JPEG_640)


def fill_hull(points: npt.NDArray[np.float64], shape: tuple[int, int]) -> Mask:
    """Return bool [H, W] of the convex hull of points (x, y): an ellipse's region, even where its line is cut.

    Raises: SourceError for points that enclose nothing.
    """
    if len(points) < 3 or min(np.ptp(points, axis=0)) < 1:
        raise SourceError(f"an outline of {len(points)} points encloses nothing; expected a closed line")
    corners = points[ConvexHull(points).vertices]
    canvas = Image.new("L", (shape[1], shape[0]), 0)
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in corners], fill=1, outline=1)
    return np.asarray(canvas) > 0


@dataclass(frozen=True)
class _Outline:
    path: Path

    def __call__(self, shape: tuple[int, int]) -> Marks:
        drawn = _grey(self.path, shape) > 127
        return Marks({"head": fill_hull(_edge_points(drawn), shape)} if drawn.any() else {})


@dataclass(frozen=True)
class _Coloured:
    mask: Path
    voc: Path
    colours: Mapping[str, tuple[int, int, int]]

    def __call__(self, shape: tuple[int, int]) -> Marks:
        masks: dict[str, Mask] = {}
        if self.mask.is_file():
            with Image.open(self.mask) as picture:
                rgb = np.asarray(picture.convert("RGB"))
            if rgb.shape[:2] != shape:
                raise SourceError(f"{self.mask.name}: mask is {rgb.shape[:2]}; expected its image's {shape}")
            for label, colour in self.colours.items():
                found = (rgb == np.array(colour, np.uint8)).all(axis=-1)
                if found.any():
                    masks[TRANSVENTRICULAR[label]] = found
            if "head" in masks:
                # One colour per pixel: the structures inside are painted over the brain, which contains them.
                inner = np.logical_or.reduce(list(masks.values()))
                masks["head"] = masks["head"] | (inner & fill_hull(_edge_points(masks["head"]), shape))
        boxes = {} if not self.voc.is_file() else _voc_boxes(self.voc, shape)
        return Marks(masks, {name: found for name, found in boxes.items() if name not in masks})


def _voc_boxes(path: Path, shape: tuple[int, int]) -> dict[str, list[PixelBox]]:
    """Read boxes of one file; a turned box (rotation in degrees about its centre) becomes its bounding box."""
    text = path.read_bytes()
    if len(text) > MAX_XML or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise SourceError(f"{path.name}: too large, or declares entities; expected plain annotations")
    try:
        root = Xml.fromstring(text)  # noqa: S314 - no entities, see above
        boxes: dict[str, list[PixelBox]] = {}
        for item in root.iter("object"):
            points = [(float(p.findtext("x", "")), float(p.findtext("y", ""))) for p in item.iter("pt") if len(p)]
            name = TRANSVENTRICULAR.get(item.findtext("name", ""))
            if name is None or len(points) < 3:
                continue
            angle = re.search(r"rotation=(-?[\d.]+)", item.findtext("attributes", ""))
            box = _turned(np.array(points), math.radians(float(angle[1])) if angle else 0.0, shape)
            boxes.setdefault(name, []).append(box)
    except (Xml.ParseError, ValueError) as error:
        raise SourceError(f"{path.name}: no box annotations ({error})") from error
    return boxes


def _turned(points: npt.NDArray[np.float64], angle: float, shape: tuple[int, int]) -> PixelBox:
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = (points - centre) @ turn + centre
    (x0, y0), (x1, y1) = corners.min(axis=0).clip(0), np.minimum(corners.max(axis=0), (shape[1], shape[0]))
    return float(x0), float(y0), float(x1), float(y1)


def _edge_points(mask: Mask) -> npt.NDArray[np.float64]:
    """Return the first and last pixel (x, y) of every row: all that a convex hull needs."""
    rows = np.nonzero(mask.any(axis=1))[0]
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    return np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1).astype(np.float64)


def _grey(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L"))
    if grey.shape != shape:
        raise SourceError(f"{path.name}: annotation is {grey.shape}; expected its image's {shape}")
    return grey


def _labelmap(path: Path) -> dict[str, tuple[int, int, int]]:
    try:
        lines = [line.split(":") for line in path.read_text().splitlines() if line and not line.startswith("#")]
        found = {line[0]: tuple(int(v) for v in line[1].split(",")) for line in lines if line[0] in TRANSVENTRICULAR}
    except (OSError, ValueError, IndexError) as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__}); expected Brain, CSP, LV") from error
    return {name: (c[0], c[1], c[2]) for name, c in found.items()}


def _barcelona_patient(name: str) -> str:
    """Return the patient number in a file's name: the same person has the same in both Barcelona sets."""
    number = re.match(r"Patient(\d+)_", name)
    if number is None:
        raise SourceError(f"{name}: no patient number in its name; expected Patient<number>_Plane<n>_...")
    return f"BCN-{number[1]}"


def _table(source: Path, name: str, *columns: str) -> list[dict[str, str]]:
    path = source / name
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read; expected the set's table {name}") from error
    if not rows or not set(columns) <= set(rows[0]):
        raise SourceError(f"{path}: expected a table with the columns {', '.join(columns)}")
    return rows
