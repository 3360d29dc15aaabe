"""Colour stays right from any file to the cleaned one: nothing turns green."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit

import fetalflex.deid.file as subject
from fetalflex.deid.file import deidentify_file
from fetalflex.deid.pixels import PixelCleaner
from fetalflex.dicom.read import read_frames
from fetalflex.errors import QuarantineError
from fetalflex.params import Deidentify
from tests.fetalflex.dicom.samples import KEY, real_data, screen, write_image

OPTIONS = Deidentify()
TINT = np.array([1.0, 0.8, 0.55])  # of a grey map that devices use
LEVELS = 3.0  # that the mean of a channel may change, of 255
KINDS = ["RGB", "planes", "YBR_FULL", "YBR_FULL_422", "jpeg", "YBR_RCT", "YBR_ICT", "PALETTE COLOR", "MONOCHROME1"]


@pytest.fixture(autouse=True)
def _no_reading_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "make_cleaner", lambda header: PixelCleaner(header, ocr=False))


def tinted() -> np.ndarray:
    """Return a smooth colour picture: channels that are subsampled lose nothing."""
    grey = np.kron(screen(1, (60, 80)), np.ones((4, 4), np.uint8))
    return (grey[..., None] * TINT).astype(np.uint8)


def write_kind(path: Path, kind: str, rgb: np.ndarray) -> None:
    """Write a colour picture as a file of that kind."""
    write_image(path, pixels=rgb)
    data = dcmread(path)
    data.PhotometricInterpretation = kind if kind.isupper() else "RGB"
    if kind == "planes":
        data.PlanarConfiguration, data.PixelData = 1, rgb.transpose(2, 0, 1).tobytes()
    elif kind in ("YBR_FULL", "YBR_FULL_422"):
        ybr = np.asarray(convert_color_space(rgb, "RGB", "YBR_FULL"))
        halves = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
        data.PixelData = (ybr if kind == "YBR_FULL" else halves).tobytes()
    elif kind in ("jpeg", "YBR_RCT", "YBR_ICT"):
        _compress(data, kind, rgb)
    elif kind == "PALETTE COLOR":
        _to_palette(data, rgb)
    elif kind == "MONOCHROME1":
        data.SamplesPerPixel, data.PixelData = 1, (255 - rgb[..., 0]).tobytes()
        del data.PlanarConfiguration
    dcmwrite(path, data)


def _compress(data: Dataset, kind: str, rgb: np.ndarray) -> None:
    out = io.BytesIO()
    if kind == "jpeg":
        Image.fromarray(rgb).save(out, "JPEG", quality=95)
        data.file_meta.TransferSyntaxUID, data.PhotometricInterpretation = JPEGBaseline8Bit, "YBR_FULL_422"
    else:
        lossless = kind == "YBR_RCT"
        Image.fromarray(rgb).save(out, "JPEG2000", irreversible=not lossless, mct=1, no_jp2=True)
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless if lossless else JPEG2000
    data.PixelData = encapsulate([out.getvalue()])


def _to_palette(data: Dataset, rgb: np.ndarray) -> None:
    data.SamplesPerPixel, data.PixelData = 1, rgb[..., 0].tobytes()
    del data.PlanarConfiguration
    for name, share in zip(("Red", "Green", "Blue"), TINT, strict=True):
        data.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        table = (np.arange(256) * share).astype("<u2") * 257
        setattr(data, f"{name}PaletteColorLookupTableData", table.tobytes())


@pytest.mark.parametrize("kind", KINDS)
def test_a_made_picture_keeps_its_colour(tmp_path: Path, kind: str) -> None:
    rgb = tinted()
    write_kind(tmp_path / "a.dcm", kind, rgb)
    deidentify_file(tmp_path / "a.dcm", tmp_path / "out.dcm", OPTIONS, "made", KEY)
    (frame,) = read_frames(tmp_path / "out.dcm")
    inside = np.s_[100:180, 150:260]
    expected = rgb[..., 0] if kind == "MONOCHROME1" else rgb
    difference = frame.pixels[inside].astype(float) - expected[inside]
    assert np.abs(difference.mean(axis=(0, 1))).max() < LEVELS
    assert np.abs(difference).mean() < 2 * LEVELS


def test_real_files_keep_their_colour(tmp_path: Path) -> None:
    compared = 0
    for source in sorted(real_data("us_dicom").glob("*.[dD]*")):
        try:
            deidentify_file(source, tmp_path / "out.dcm", OPTIONS, "made", KEY)
        except QuarantineError:
            continue  # GDCM's formats are read within a worker only
        before, after = (next(iter(read_frames(p, numbers=[0]))).pixels for p in (source, tmp_path / "out.dcm"))
        shown = after > 0
        assert before.shape == after.shape, source.name
        np.testing.assert_array_equal(after[shown], before[shown], err_msg=source.name)
        compared += 1
    assert compared >= 26
