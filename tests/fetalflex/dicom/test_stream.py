import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless

from fetalflex.dicom.pixels import to_eight_bits
from fetalflex.dicom.read import read_header
from fetalflex.dicom.stream import encode_rle, iter_samples, open_writer, state_compression
from fetalflex.errors import QuarantineError, Reason
from tests.fetalflex.dicom.samples import screen, write_image


def write_clip(path: Path, frames: list[np.ndarray], storage: str, **values: object) -> None:
    """Write frames behind the header of a made image."""
    write_image(path.with_suffix(".still"), 2)
    data = read_header(path.with_suffix(".still"))
    for keyword, value in values.items():
        setattr(data, keyword, value)
    with open_writer(path, data, len(frames), storage) as writer:  # type: ignore[arg-type]
        for frame in frames:
            writer.add(frame)


@pytest.mark.parametrize("storage", ["native", "rle"])
@pytest.mark.parametrize("shape", [(51, 53), (50, 64, 3), (49, 51, 3)])
def test_frames_come_back_as_they_went_in(tmp_path: Path, storage: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 4, shape, dtype=np.uint8) * 60 for _ in range(3)]
    write_clip(tmp_path / "clip.dcm", frames, storage)
    read = list(iter_samples(tmp_path / "clip.dcm"))
    assert [p for _, p in read] == ["RGB" if len(shape) == 3 else "MONOCHROME2"] * 3
    for (samples, _), frame in zip(read, frames, strict=True):
        np.testing.assert_array_equal(samples, frame)
    ((last, _),) = iter_samples(tmp_path / "clip.dcm", [2])
    np.testing.assert_array_equal(last, frames[2])
    whole = dcmread(tmp_path / "clip.dcm")
    np.testing.assert_array_equal(whole.pixel_array, np.stack(frames))
    assert (tmp_path / "clip.dcm").stat().st_size % 2 == 0


def test_the_offset_table_points_at_every_frame(tmp_path: Path) -> None:
    frames = [screen(i) for i in range(4)]
    write_clip(tmp_path / "clip.dcm", frames, "rle")
    data = dcmread(tmp_path / "clip.dcm")
    assert data.file_meta.TransferSyntaxUID == RLELossless
    value = data.PixelData
    assert struct.unpack("<HHL", value[:8]) == (0xFFFE, 0xE000, 16)
    start = 24
    for offset in struct.unpack("<4L", value[8:24]):
        assert struct.unpack("<HH", value[start + offset : start + offset + 4]) == (0xFFFE, 0xE000)


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_rle_is_lossless(rows: int, columns: int, colour: bool, seed: int) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    shape = (rows, columns, 3) if colour else (rows, columns)
    pixels = np.random.default_rng(seed).integers(0, 3, shape, dtype=np.uint8)
    data = Dataset()
    data.Rows, data.Columns, data.SamplesPerPixel = rows, columns, 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.PixelRepresentation = data.PlanarConfiguration = 0
    data.PixelData = encapsulate([encode_rle(pixels)])
    read, _ = get_decoder(RLELossless).as_array(_with_syntax(data), raw=True)
    np.testing.assert_array_equal(read, pixels)


def _with_syntax(data: Dataset) -> Dataset:
    from pydicom.dataset import FileMetaDataset

    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = RLELossless
    data["PixelData"].VR = "OB"
    return data


def test_a_wrong_number_or_size_of_frames_writes_nothing(tmp_path: Path) -> None:
    wrong = (([screen()], Reason.TRUNCATED), ([screen(), screen()[:60]], Reason.BAD_DIMENSIONS))
    for frames, reason in wrong:
        with pytest.raises(QuarantineError) as caught:
            _write_two(tmp_path, frames)
        assert caught.value.reason is reason
    assert [p.name for p in tmp_path.iterdir()] == ["still"]


def _write_two(folder: Path, frames: list[np.ndarray]) -> None:
    write_image(folder / "still", 2)
    with open_writer(folder / "a.dcm", read_header(folder / "still"), 2, "rle") as writer:
        for frame in frames:
            writer.add(frame)


def test_truncated_and_lying_pixels_are_named(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.dcm", [screen(), screen(1)], "native")
    raw = (tmp_path / "clip.dcm").read_bytes()
    (tmp_path / "short.dcm").write_bytes(raw[:-500])
    with pytest.raises(QuarantineError) as caught:
        list(iter_samples(tmp_path / "short.dcm"))
    assert caught.value.reason in (Reason.TRUNCATED, Reason.LYING_LENGTH)


def test_the_pixel_module_says_what_is_written(tmp_path: Path) -> None:
    window = {"WindowCenter": "127", "WindowWidth": "254", "SmallestImagePixelValue": 3}
    write_clip(tmp_path / "grey.dcm", [screen()], "native", **window)
    grey = dcmread(tmp_path / "grey.dcm")
    assert (grey.WindowCenter, "SmallestImagePixelValue" in grey) == (127, False)
    write_clip(tmp_path / "rgb.dcm", [np.stack([screen()] * 3, axis=-1)], "native", **window)
    colour = dcmread(tmp_path / "rgb.dcm")
    assert (colour.PhotometricInterpretation, colour.PlanarConfiguration, colour.SamplesPerPixel) == ("RGB", 0, 3)
    assert "WindowCenter" not in colour


def test_inverted_grey_stays_inverted(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.dcm", [255 - screen()], "native", PhotometricInterpretation="MONOCHROME1")
    ((samples, photometric),) = iter_samples(tmp_path / "a.dcm")
    assert photometric == "MONOCHROME1"
    np.testing.assert_array_equal(to_eight_bits(samples, read_header(tmp_path / "a.dcm"), photometric), 255 - screen())


def test_loss_is_stated_once() -> None:
    data = Dataset()
    data.LossyImageCompression = "00"
    state_compression(data, "1.2.840.10008.1.2.4.70", 2.0)
    assert data.LossyImageCompression == "00"
    state_compression(data, "1.2.840.10008.1.2.4.50", 12.345)
    state_compression(data, "1.2.840.10008.1.2.4.91", 3.0)
    assert (data.LossyImageCompression, data.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert data.LossyImageCompressionRatio == 12.35 or data.LossyImageCompressionRatio == 12.34
