"""DICOM: each image as an Ultrasound Image object that says what it is, outlines as SEG, boxes as a report."""

import hashlib
from pathlib import Path

from fetalflex.artifacts import file_sha256
from fetalflex.release.items import Item
from fetalflex.synthesis.dicom_out import Synthetic, write_synthetic


def write_dicom(folder: Path, item: Item, number: int, model: str) -> dict[str, str | None]:
    """Write an image's files into `accepted/` or `rejected/` and return their SHA-256: dicom, segmentation, boxes.

    `number` counts within the release, `model` is the SHA-256 of the weights; with the seed they make the UIDs, so
    equal images are equal files.
    """
    asked = hashlib.sha256(str(item.row["layout"]).encode()).hexdigest()
    names = (str(item.row["seed"]), model, str(item.row["plane"]), asked)
    place = folder / item.split
    written = write_synthetic(place, item.image_id, Synthetic(item.pixels, item.layout, number, names))
    hashes = {path.stem.removeprefix(item.image_id): file_sha256(path) for path in written}
    return {"dicom": hashes[""], "segmentation": hashes.get("-seg"), "boxes": hashes.get("-boxes")}
