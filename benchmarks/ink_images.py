"""Images and clips to plant ink on, each with the header that says where its ultrasound is.

Two splits: what a detector is tuned on (`dev`), and other images that it never saw (`held-out`).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset

from fetalflex.deid.pixels import PixelCleaner
from fetalflex.dicom.entry import open_dicom
from fetalflex.dicom.read import FrameReader
from fetalflex.errors import QuarantineError
from fetalflex.phantom.acoustics import image_scene
from fetalflex.phantom.center import PLANE_WORDS
from fetalflex.phantom.devices import device
from fetalflex.phantom.scene import make_scene

SETS = {"hc18": "hc18/training_set", "african": "african_planes/images", "barcelona": "barcelona_planes/images"}
SPLITS = {"dev": 0, "held-out": 1}
FAR = 100_000  # between the seeds of the splits


def images_of(name: str, data: Path | None, split: str, count: int) -> Iterator[tuple[str, np.ndarray, Dataset]]:
    """Yield images of a source by its name; none where it needs public data that are not there."""
    if name == "phantom":
        yield from phantom_images(count, FAR * SPLITS[split])
    elif data is not None and name == "us_dicom":
        yield from dicom_images(data, split, count)
    elif data is not None:
        yield from public_images(data, name, split, count)


def phantom_images(count: int, first: int = 0) -> Iterator[tuple[str, np.ndarray, Dataset]]:
    """Yield phantom images with their regions, from both devices."""
    for number in range(first, first + count):
        scanner = device(("curved-a", "curved-b")[number % 2])
        planes = list(PLANE_WORDS[scanner.name].values())
        rng = np.random.default_rng(number)
        picture = image_scene(make_scene(planes[number // 2 % len(planes)], 18 + number % 17, rng), scanner, rng)
        yield f"phantom-{scanner.name}", picture.pixels, region_header(picture.pixels.shape, picture.region)


def public_images(data: Path, name: str, split: str, count: int) -> Iterator[tuple[str, np.ndarray, Dataset]]:
    """Yield images of a public set, whose region is the whole picture; the splits take turns in the folder."""
    files = [f for f in sorted((data / SETS[name]).rglob("*.*")) if "Annotation" not in f.name]
    files = files[SPLITS[split] :: 2]
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


def dicom_images(data: Path, split: str, count: int) -> Iterator[tuple[str, np.ndarray, Dataset]]:
    """Yield the first frames of real DICOM files that can be used, with their own headers."""
    files = sorted(f for f in (data / "us_dicom").iterdir() if f.suffix.lower() == ".dcm")[SPLITS[split] :: 2][:count]
    for file in files:
        try:
            with open_dicom(file) as opened:
                reader = FrameReader(opened)
                pixels = reader.frame(0).pixels
                PixelCleaner(reader.header, ocr=False).clean(pixels)
        except QuarantineError:
            continue
        if min(pixels.shape[:2]) >= 200:  # smaller ones have no room for a token
            yield "us_dicom", np.array(pixels), reader.header


def make_clip(number: int, frames: int) -> tuple[list[np.ndarray], Dataset]:
    """Return a clip of one scene with fresh speckle in each frame."""
    scanner = device(("curved-a", "curved-b")[number % 2])
    plane = list(PLANE_WORDS[scanner.name].values())[number % 4]
    scene = make_scene(plane, 24, np.random.default_rng(number))
    pictures = [image_scene(scene, scanner, np.random.default_rng((number, i))) for i in range(frames)]
    return [p.pixels for p in pictures], region_header(pictures[0].pixels.shape, pictures[0].region)
