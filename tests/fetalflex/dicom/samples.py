"""Small made DICOM objects that the tests of reading and ingest share."""

import os
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian

from fetalflex.deid.keys import PseudonymKey
from fetalflex.dicom.write import UltrasoundImage, derive_uid, write_segmentation, write_ultrasound
from fetalflex.params import Center, Ingest

KEY = PseudonymKey(b"a secret of the tests only", "the tests")
CENTER = Center(title="Made", licence="none", planes={"ventric": "transventricular", "brain": "brain"})
INGEST = Ingest(centers={"made": "frames"}, max_side_px=128, shards=3)


def screen(seed: int = 0, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Return a screen: speckle in a rectangle from (30, 20) to 10 pixels before the far corner, dark around it."""
    pixels = np.zeros(shape, np.uint8)
    inside = pixels[20:-10, 30:-10]
    inside[:] = np.random.default_rng(seed).integers(40, 220, inside.shape, dtype=np.uint8)
    return pixels


def write_image(path: Path, seed: int = 0, **values: object) -> Dataset:
    """Write one made image; `seed` names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    uids = {
        name: derive_uid("made", seed, name) if name == "sop_uid" else derive_uid("made", seed // 2, name)
        for name in ("sop_uid", "study_uid", "series_uid")
    }
    base: dict[str, object] = {
        "pixels": screen(seed),
        "patient_id": f"P{seed // 2}",
        "study_description": "Fetal BRAIN",
    }
    return write_ultrasound(path, UltrasoundImage(**(uids | base | values)))  # type: ignore[arg-type]


def changed(path: Path, **values: object) -> Path:
    """Set attributes of a file by keyword; None removes one."""
    data = dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    dcmwrite(path, data)
    return path


def deflated(path: Path) -> Path:
    """Write a file anew, deflated."""
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dcmwrite(path, data)
    return path


def head_mask(shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Return an ellipse inside the speckle of `screen`."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return ((y - 65) / 30) ** 2 + ((x - 90) / 40) ** 2 <= 1


def write_center(folder: Path, count: int = 6) -> Path:
    """Write `count` images, the even ones with a segmentation of the head."""
    for seed in range(count):
        image = write_image(folder / f"p{seed // 2}" / f"im{seed}.dcm", seed, spacing_mm=(0.2, 0.2))
        if seed % 2 == 0:
            write_segmentation(folder / f"p{seed // 2}" / f"im{seed}.seg", image, {"head": head_mask()}, f"s{seed}")
    return folder


def real_data(name: str) -> Path:
    """Return a folder of the real data, or skip the test, saying why."""
    root = os.environ.get("FETALFLEX_DATA")
    if not root:
        pytest.skip("FETALFLEX_DATA is not set: no real data here")
    if not (Path(root) / name).is_dir():
        pytest.skip(f"FETALFLEX_DATA has no folder {name}")
    return Path(root) / name
