"""DICOM in: an ultrasound image's frames, one by one, with a named reason for whatever cannot be used.

Sizes are checked before anything is decoded, and only one frame is in memory: a clip costs no more than a still.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from fetalflex.dicom.entry import LIMITS, Limits, OpenFile, guarded, open_dicom, quiet, read_header
from fetalflex.dicom.fragments import find_frames, read_frame
from fetalflex.dicom.pixels import Grey, find_colour, to_display, to_luma
from fetalflex.dicom.serve import inside_worker
from fetalflex.errors import QuarantineError, Reason

__all__ = ["LIMITS", "Frame", "FrameReader", "Limits", "check_image", "frame_numbers", "guarded", "open_dicom", "quiet",
           "read_frames", "read_header"]  # fmt: skip

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
REPORTS = tuple(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33, 34))
STILL, CLIP = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
RETIRED = ("1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3")
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
RLE, BIG_ENDIAN = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.2"
# In the order of preference. GDCM is C++ with a history of memory errors: it comes last, and only within a worker.
PLUGINS = ("pylibjpeg", "pyjpegls", "pillow", "gdcm")
# What a decoder asks of a header.
DESCRIBING = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
              "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame: `number` from 0, `pixels` as displayed: uint8 [H, W], or [H, W, 3] RGB."""

    number: int
    pixels: Grey

    @cached_property
    def grey(self) -> Grey:
        """Grey levels, uint8 [H, W]."""
        return to_luma(self.pixels)

    @cached_property
    def coloured(self) -> npt.NDArray[np.bool_] | None:
        """Where a colour image is coloured beyond a tint, bool [H, W]; None for a grey one."""
        return find_colour(self.pixels)


def check_image(header: Dataset, limits: Limits = LIMITS) -> int:
    """Return the number of frames of an ultrasound image whose size is within the limits, before any decoding.

    Source: DICOM PS3.4 B.5 (storage classes). A Secondary Capture counts where its modality is US.
    Raises: QuarantineError not_ultrasound, no_pixels, bad_dimensions or too_large.
    """
    kind = str(header.get("SOPClassUID", ""))
    if kind not in (STILL, CLIP, *RETIRED) and not (kind == CAPTURE and header.get("Modality") == "US"):
        raise QuarantineError(Reason.NOT_ULTRASOUND, "its storage class is no ultrasound image")
    rows, columns = (_whole(header, name) for name in ("Rows", "Columns"))
    frames = _whole(header, "NumberOfFrames") if header.get("NumberOfFrames") else 1
    if "Rows" not in header and "Columns" not in header:
        raise QuarantineError(Reason.NO_PIXELS, "has no image")
    if min(rows, columns) < limits.min_side or frames < 1:
        raise QuarantineError(Reason.BAD_DIMENSIONS, f"{columns} x {rows} pixels, {frames} frames")
    if max(rows, columns) > limits.max_side or rows * columns > limits.max_pixels:
        raise QuarantineError(Reason.TOO_LARGE, f"{columns} x {rows} pixels")
    if rows * columns * frames > limits.max_clip_pixels:
        raise QuarantineError(Reason.TOO_LARGE, f"{frames} frames of {columns} x {rows} pixels")
    if _whole(header, "BitsAllocated") not in (8, 16) or _whole(header, "SamplesPerPixel") not in (1, 3):
        raise QuarantineError(Reason.BAD_DIMENSIONS, "bits or samples per pixel are none of an ultrasound image")
    return frames


def frame_numbers(total: int, limit: int) -> list[int]:
    """Return at most `limit` frame numbers, evenly spaced from the first: of a clip, the first and the middle one.

    >>> frame_numbers(30, 2)
    [0, 15]
    """
    taken = max(1, min(limit, total))
    return [i * total // taken for i in range(taken)]


def read_frames(path: Path, limits: Limits = LIMITS, numbers: Sequence[int] | None = None) -> Iterator[Frame]:
    """Yield frames of an ultrasound image file, each decoded when it is asked for; None: those of `frame_numbers`.

    Raises: QuarantineError, as `open_dicom`, `check_image` and `FrameReader` do.
    """
    with open_dicom(path, limits) as file:
        reader = FrameReader(file, limits)
        for number in frame_numbers(reader.total, limits.max_frames) if numbers is None else numbers:
            yield reader.frame(number)


class FrameReader:
    """Frames of an open image in any order, one in memory at a time. `total`: how many there are."""

    def __init__(self, file: OpenFile, limits: Limits = LIMITS) -> None:
        """Check size and pixel data. Raises: QuarantineError as `check_image`, no_pixels, truncated, lying_length."""
        self._file, self.header = file, file.header
        self.total = check_image(file.header, limits)
        place = file.pixels
        if place is None or place.length == 0:
            raise QuarantineError(Reason.NO_PIXELS, "holds no pixel data")
        self._place, self._syntax = place, file.header.file_meta.TransferSyntaxUID
        with guarded(Reason.DECODE_FAILED, "pixels cannot be read"):
            if self._syntax.is_encapsulated:
                if place.length is not None:
                    raise QuarantineError(Reason.LYING_LENGTH, "its compressed pixels state one length")
                one_each = str(self._syntax) == RLE
                self._frames = find_frames(file.stream, place.start, file.size, self.total, one_each=one_each)
            else:
                self._frame_bytes = self._native_bytes(place.length)

    def frame(self, number: int) -> Frame:
        """Return frame `number` (from 0), decoded and as displayed. Raises: QuarantineError."""
        samples, photometric = self.samples(number)
        with guarded(Reason.DECODE_FAILED, "colour cannot be read"):
            return Frame(number, to_display(samples, self.header, photometric))

    def raw(self, number: int) -> bytes:
        """Return a frame's stored bytes: native samples, or its code stream."""
        if not 0 <= number < self.total:
            raise QuarantineError(Reason.DECODE_FAILED, f"frame {number} of {self.total}")
        if self._syntax.is_encapsulated:
            return read_frame(self._file.stream, self._frames[number])
        self._file.stream.seek(self._place.start + number * self._frame_bytes)
        return self._file.stream.read(self._frame_bytes)

    def _native_bytes(self, length: int | None) -> int:
        """Return the bytes of one frame. Raises: QuarantineError truncated or lying_length where they are not there."""
        header = self.header
        size = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * int(header.BitsAllocated) // 8
        # YBR_FULL_422 stores two samples per pixel.
        size = size * 2 // 3 if header.get("PhotometricInterpretation") == "YBR_FULL_422" else size
        there, expected = self._file.size - self._place.start, size * self.total
        if length is None:
            raise QuarantineError(Reason.LYING_LENGTH, "its uncompressed pixels state no length")
        if length < expected:
            raise QuarantineError(Reason.LYING_LENGTH, f"{length} bytes of pixels for an image of {expected}")
        if there < min(length, expected):
            raise QuarantineError(Reason.TRUNCATED, f"{there} of {expected} bytes of pixels")
        if length > there and length > 2 * expected:
            raise QuarantineError(Reason.LYING_LENGTH, f"{length} bytes of pixels for an image of {expected}")
        return size

    def samples(self, number: int) -> tuple[npt.NDArray[Any], str]:
        """Return samples [H, W] or [H, W, 3] of one frame and their photometric interpretation as decoded."""
        with guarded(Reason.DECODE_FAILED, f"frame {number} cannot be read"):
            data = self._single(self.raw(number))
        if not self._syntax.is_encapsulated:
            return _decode_with(data, number, "")
        try:
            available = get_decoder(self._syntax).available_plugins
        except NotImplementedError as error:
            raise QuarantineError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"no decoder for {self._syntax.name}") from error
        for plugin in PLUGINS if str(self._syntax) != RLE else ("pylibjpeg", "pydicom"):
            if plugin in available and (plugin != "gdcm" or inside_worker()):
                return _decode_with(data, number, plugin)
        raise QuarantineError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"no decoder for {self._syntax.name}")

    def _single(self, frame: bytes) -> Dataset:
        """Return a data set of one frame: decoders then need no view of the whole clip."""
        data = Dataset()
        for name in DESCRIBING:
            if name in self.header:
                data[name] = self.header[name]
        data.file_meta = self.header.file_meta
        encapsulated = self._syntax.is_encapsulated
        pixels = encapsulate([frame], has_bot=False) if encapsulated else frame + b"\0" * (len(frame) % 2)
        data.add_new("PixelData", "OB" if encapsulated else self._place.vr or "OW", pixels)
        return data


def _decode_with(data: Dataset, number: int, plugin: str) -> tuple[npt.NDArray[Any], str]:
    with guarded(Reason.DECODE_FAILED, f"frame {number} cannot be decoded"):
        decoder = get_decoder(data.file_meta.TransferSyntaxUID)
        samples, about = decoder.as_array(data, index=0, raw=True, decoding_plugin=plugin)
    return samples, str(about["photometric_interpretation"])


def _whole(header: Dataset, keyword: str) -> int:
    try:
        return int(header.get(keyword, 0) or 0)
    except (TypeError, ValueError) as error:
        raise QuarantineError(Reason.BAD_DIMENSIONS, f"{keyword} is no number") from error
