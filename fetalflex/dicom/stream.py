"""Images in and out frame by frame: a clip of any length takes the memory of a frame.

Reading decodes a frame when it is asked for; writing puts native samples or RLE Lossless behind a finished header.
Source: DICOM PS3.5 A.2 (explicit VR little endian), A.4 and A.4.2 (encapsulation, RLE), G (RLE); PS3.3 C.7.6.3.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import get_encoder
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from fetalflex.artifacts import atomic
from fetalflex.dicom.read import FrameReader, guarded, open_dicom
from fetalflex.errors import QuarantineError, Reason

Pixels = npt.NDArray[np.uint8]
Storage = Literal["native", "rle"]
PIXEL_DATA = b"\xe0\x7f\x10\x00"
UNDEFINED, LARGEST = 0xFFFFFFFF, 0xFFFFFFFE
ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0" + b"\0\0\0\0"
# What describes the samples as they were and would be wrong of 8-bit grey or RGB.
OUTDATED = (
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
)  # fmt: skip
WINDOWS = ("WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "VOILUTFunction")
# Transfer syntaxes that lose something -> the method's defined term (PS3.3 C.7.6.1.1.5.1).
LOSSY = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1", "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1", "1.2.840.10008.1.2.4.91": "ISO_15444_1",
}  # fmt: skip


def iter_samples(path: Path, numbers: Iterable[int] | None = None) -> Iterator[tuple[npt.NDArray[Any], str]]:
    """Yield (samples [H, W] or [H, W, 3] as stored, their photometric interpretation) of all or the named frames.

    Raises: QuarantineError as `open_dicom` and `FrameReader` do.
    """
    with open_dicom(path) as file:
        reader = FrameReader(file)
        for number in range(reader.total) if numbers is None else sorted(set(numbers)):
            samples, photometric = reader.samples(number)
            yield samples.astype(samples.dtype.newbyteorder("="), copy=False), photometric


class FrameWriter:
    """Takes the frames of one file, one after the other; made by `open_writer`."""

    def __init__(self, stream: BinaryIO, data: Dataset, total: int, storage: Storage) -> None:
        self._stream, self._data, self._total, self._storage = stream, data, total, storage
        self._shape: tuple[int, ...] | None = None
        self._start, self._count = 0, 0
        self._offsets: list[int] = []

    def add(self, pixels: Pixels) -> None:
        """Write the next frame: uint8 [H, W] grey or [H, W, 3] RGB, as large as the first.

        Raises: QuarantineError bad_dimensions where it differs from the first, too_large beyond what Pixel Data holds.
        """
        if self._shape is None:
            self._shape = pixels.shape
            self._start = _begin(self._stream, self._data, pixels, self._total, self._storage)
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            what = f"frame {self._count} is {pixels.shape}, the first {self._shape}"
            raise QuarantineError(Reason.BAD_DIMENSIONS, what)
        if self._storage == "rle":
            self._offsets.append(self._stream.tell() - self._start)
            _write_item(self._stream, encode_rle(pixels))
        else:
            self._stream.write(np.ascontiguousarray(pixels).data)
        self._count += 1

    def finish(self) -> None:
        """End Pixel Data. Raises: QuarantineError truncated where another number of frames came than was announced."""
        if self._count != self._total or self._shape is None:
            raise QuarantineError(Reason.TRUNCATED, f"{self._count} of {self._total} frames")
        if self._storage == "rle":
            _end_items(self._stream, self._start, self._offsets)
        elif self._stream.tell() % 2:
            self._stream.write(b"\0")


@contextmanager
def open_writer(path: Path, data: Dataset, total: int, storage: Storage) -> Iterator[FrameWriter]:
    """Yield a writer of `total` frames behind the header `data`; the file appears when the block ends, whole.

    The image pixel module of `data` is made to fit the frames (MONOCHROME1 stays MONOCHROME1), its transfer syntax
    becomes Explicit VR Little Endian (`native`) or RLE Lossless. Raises: QuarantineError as the writer's methods do.
    """
    with atomic(path) as partial, partial.open("wb+") as stream:
        writer = FrameWriter(stream, data, total, storage)
        yield writer
        writer.finish()


def save_little_endian(data: Dataset, stream: BinaryIO) -> None:
    """Write a data set in Explicit VR Little Endian, whatever it was read in; pydicom alone refuses to swap bytes."""
    _, little = data.original_encoding
    if little is False:
        swapped = Dataset()
        for element in data.iterall():  # decodes every element at every depth
            if element.tag in data and data[element.tag] is element:
                swapped.add(element)
        swapped.file_meta, swapped.preamble = data.file_meta, data.preamble
        data = swapped
    whole = BytesIO()  # a file takes one long write better than hundreds of short ones
    data.save_as(whole, enforce_file_format=True, implicit_vr=False, little_endian=True)
    stream.write(whole.getbuffer())


def describe_pixels(data: Dataset, pixels: Pixels, total: int) -> None:
    """Make the image pixel module say what the pixels are: 8 bits, RGB by pixel or one grey channel.

    Source: DICOM PS3.3 C.7.6.3.
    """
    for keyword in OUTDATED:
        if keyword in data:
            delattr(data, keyword)
    colour = pixels.ndim == 3
    inverted = data.get("PhotometricInterpretation") == "MONOCHROME1"
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME1" if inverted else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    elif "PlanarConfiguration" in data:
        del data.PlanarConfiguration
    if colour or int(data.get("BitsAllocated", 8)) != 8 or int(data.get("PixelRepresentation", 0)):
        for keyword in WINDOWS:  # applied already, or of no meaning for colour
            if keyword in data:
                delattr(data, keyword)
    data.Rows, data.Columns = pixels.shape[:2]
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    if total > 1 or "NumberOfFrames" in data:
        data.NumberOfFrames = total


def state_compression(data: Dataset, source_syntax: str, ratio: float) -> None:
    """Say that pixels were compressed with loss where they came so, once and for ever.

    `ratio`: uncompressed to compressed bytes. Source: DICOM PS3.3 C.7.6.1.1.5.
    """
    method = LOSSY.get(source_syntax)
    if method is None or data.get("LossyImageCompression") == "01":
        return
    data.LossyImageCompression, data.LossyImageCompressionMethod = "01", method
    data.LossyImageCompressionRatio = f"{ratio:.4g}"


def encode_rle(pixels: Pixels) -> bytes:
    """Return one frame in RLE Lossless: a segment per channel, each as short as its runs allow. Source: PS3.5 G."""
    colour = pixels.ndim == 3
    encoded: bytes = get_encoder(RLELossless).encode(
        np.ascontiguousarray(pixels), rows=pixels.shape[0], columns=pixels.shape[1], number_of_frames=1,
        samples_per_pixel=3 if colour else 1, photometric_interpretation="RGB" if colour else "MONOCHROME2",
        bits_allocated=8, bits_stored=8, pixel_representation=0, encoding_plugin="pylibjpeg",
        **({"planar_configuration": 0} if colour else {}),
    )  # fmt: skip
    return encoded


def _begin(stream: BinaryIO, data: Dataset, pixels: Pixels, total: int, storage: Storage) -> int:
    """Write header, Pixel Data's own head and an empty offset table; return where the first frame will stand."""
    describe_pixels(data, pixels, total)
    size = pixels.nbytes * total + pixels.nbytes * total % 2
    if size > LARGEST:
        raise QuarantineError(Reason.TOO_LARGE, f"{size} bytes of pixels")
    data.file_meta.TransferSyntaxUID = RLELossless if storage == "rle" else ExplicitVRLittleEndian
    if "PixelData" in data:
        del data.PixelData
    with guarded(Reason.DECODE_FAILED, "header cannot be written"):
        save_little_endian(data, stream)
    stream.write(PIXEL_DATA + b"OB\0\0" + struct.pack("<L", UNDEFINED if storage == "rle" else size))
    if storage == "rle":
        stream.write(ITEM + struct.pack("<L", 4 * total) + bytes(4 * total))
    return stream.tell()


def _write_item(stream: BinaryIO, value: bytes) -> None:
    padded = value + b"\0" * (len(value) % 2)
    stream.write(ITEM + struct.pack("<L", len(padded)) + padded)


def _end_items(stream: BinaryIO, start: int, offsets: list[int]) -> None:
    """Write the end, then the basic offset table in front."""
    if offsets[-1] > LARGEST:
        raise QuarantineError(Reason.TOO_LARGE, f"{offsets[-1]} bytes of compressed pixels")
    stream.write(END)
    stream.seek(start - 4 * len(offsets))
    stream.write(struct.pack(f"<{len(offsets)}L", *offsets))
    stream.seek(0, os.SEEK_END)
