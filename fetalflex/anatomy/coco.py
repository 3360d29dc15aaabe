"""COCO annotations -> layouts: polygons, run lengths (plain and compressed), boxes.

Source: cocodataset.org/#format-data; the compressed run lengths as its `maskApi` defines them: columns first, runs
of outside and inside in turn, from the fourth on as the difference to the run two before, in groups of 5 bits.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex.anatomy.interchange import Picture, Reading, read_bytes
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask
from fetalflex.anatomy.shapes import Polyline
from fetalflex.errors import AnnotationError


def layouts_from_coco(path: Path, reading: Reading) -> dict[str, Layout]:
    """Return each picture's layout by its `file_name`; pictures without annotations have an empty one.

    A single polygon becomes a closed polyline, several of one object and run lengths a mask, a bare `bbox` a box.
    Raises: AnnotationError where the file is no COCO or has an unknown label, LayoutError where an object does not
    fit the plane or its picture.
    """
    try:
        value = json.loads(read_bytes(path, "COCO annotations"))
        labels = {item["id"]: str(item["name"]) for item in value["categories"]}
        pictures = {item["id"]: item for item in value["images"]}
        objects: dict[Any, list[LayoutObject]] = {number: [] for number in pictures}
        sizes = {n: Picture(int(i["height"]), int(i["width"]), reading.spacing_mm) for n, i in pictures.items()}
        for number, item in enumerate(value["annotations"]):
            name = reading.structure(labels[item["category_id"]], f"{path.name}: annotation {number}")
            if name:
                objects[item["image_id"]].append(_object(item, name, sizes[item["image_id"]]))
        return {str(i["file_name"]): sizes[n].layout(objects[n], reading) for n, i in pictures.items()}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise AnnotationError(
            f"{path.name}: no COCO annotations ({error!r}); expected images, annotations and categories"
        ) from error


def _object(item: dict[str, Any], structure: str, picture: Picture) -> LayoutObject:
    shape = item.get("segmentation")
    if not shape:
        x, y, w, h = (float(v) for v in item["bbox"])
        return picture.box(structure, (x, y, x + w, y + h))
    if isinstance(shape, dict):
        rows, columns = (int(v) for v in shape["size"])
        counts = shape["counts"]
        runs = counts if isinstance(counts, list) else decode_runs(str(counts))
        return picture.mask(structure, mask_of_runs(runs, rows, columns))
    polygons = [[(float(x), float(y)) for x, y in zip(p[::2], p[1::2], strict=True)] for p in shape]
    if len(polygons) == 1:
        return picture.outline(structure, polygons[0])
    return picture.mask(structure, _united(polygons, picture))


def _united(polygons: list[list[tuple[float, float]]], picture: Picture) -> Mask:
    mask = np.zeros((picture.side, picture.side), bool)
    for points in polygons:
        mask |= Polyline(tuple(points)).draw(float(picture.side), picture.side)
    return mask[: picture.rows, : picture.columns]


def decode_runs(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed form. Raises: ValueError where the text ends within a number."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"{letter!r} is no letter of compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths end within a number")
    return runs


def mask_of_runs(runs: list[int], rows: int, columns: int) -> Mask:
    """Return bool [rows, columns] of runs of outside and inside in turn, down the columns.

    Raises: ValueError where a run is negative or they do not fill the picture.
    """
    lengths = [int(v) for v in runs]
    if min(lengths, default=0) < 0 or sum(lengths) != rows * columns:
        raise ValueError(f"run lengths fill {sum(lengths)} pixels; expected {rows} x {columns}")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(columns, rows).T.copy()
