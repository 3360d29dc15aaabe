"""DICOM in: one file, header first, then frame by frame, with a named reason for whatever cannot be used.

A hostile or broken file costs one row of the quarantine table: sizes are checked before anything is decoded,
deflated files (1 MB becomes 1 GiB) are refused. Raw files are read in a worker only (`fetalflex.dicom.sandbox`).
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, config, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from fetalflex.dicom.pixels import Grey, to_grey
from fetalflex.dicom.serve import inside_worker
from fetalflex.errors import QuarantineError, Reason

# pydicom's warnings and log lines quote header values, and those may be identifiers.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
_QUIET = threading.RLock()

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
REPORTS = tuple(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33, 34))
STILL, CLIP = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
RETIRED = ("1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3")
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DEFLATED = "1.2.840.10008.1.2.1.99"
# In the order of preference. GDCM is C++ with a history of memory errors: it comes last, and only within a worker.
PLUGINS = ("pylibjpeg", "pyjpegls", "pillow", "gdcm")
# Read with the header: all but pixels and what may be as big (overlays, waveforms, spectra).
BULK = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class Limits:
    """What is too large to be an ultrasound image, or too small to be one; in bytes and pixels."""

    max_bytes: int = 2 * 2**30
    max_side: int = 8192
    max_pixels: int = 16 * 2**20
    min_side: int = 48
    max_frames: int = 2

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}; expected at least 1")


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame: `number` from 0, `grey` uint8 [H, W], `coloured` bool [H, W] or None (no colour image)."""

    number: int
    grey: Grey
    coloured: npt.NDArray[np.bool_] | None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings raised while a file is parsed: they quote its header. One thread at a time (global state)."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def guarded(reason: Reason, what: str) -> Iterator[None]:
    """Turn any error of the block into a QuarantineError: a hostile file can provoke every kind of error in pydicom.

    Only the error's type is told: its message may quote the file.
    """
    try:
        with quiet():
            yield
    except (QuarantineError, MemoryError):  # of too little memory the sandbox makes a reason
        raise
    except RecursionError as error:
        raise QuarantineError(Reason.NESTED_TOO_DEEP, "nests deeper than any real object") from error
    except EOFError as error:
        raise QuarantineError(Reason.TRUNCATED, "ends too early") from error
    except InvalidDicomError as error:
        raise QuarantineError(Reason.NOT_DICOM, "cannot be parsed as DICOM") from error
    except Exception as error:
        raise QuarantineError(reason, f"{what} ({type(error).__name__})") from error


def read_header(path: Path, limits: Limits = Limits()) -> Dataset:
    """Return the header (without pixels) of any DICOM file, with its file meta.

    Raises: QuarantineError not_dicom, too_large, truncated, unsupported_transfer_syntax (deflated) or decode_failed.
    """
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise QuarantineError(Reason.TOO_LARGE, f"{size} bytes; the limit is {limits.max_bytes}")
    with guarded(Reason.DECODE_FAILED, "header cannot be read"):
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                raise QuarantineError(Reason.NOT_DICOM, "has no DICOM preamble")
        # Before the rest is parsed: parsing a deflated file inflates all of it.
        syntax = str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
        if syntax == DEFLATED or not UID(syntax).is_transfer_syntax:
            what = "deflated, or no transfer syntax of the standard"
            raise QuarantineError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, what)
        return dcmread(path, stop_before_pixels=True)


def check_image(header: Dataset, limits: Limits = Limits()) -> int:
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
    if _whole(header, "BitsAllocated") not in (8, 16) or _whole(header, "SamplesPerPixel") not in (1, 3):
        raise QuarantineError(Reason.BAD_DIMENSIONS, "bits or samples per pixel are none of an ultrasound image")
    return frames


def frame_numbers(total: int, limit: int) -> list[int]:
    """Return at most `limit` frame numbers, evenly spaced from the first: of a clip, the first and the middle one.

    >>> frame_numbers(30, 2)
    [0, 15]
    """
    return sorted({i * total // limit for i in range(min(limit, total))} | {0})


def read_frames(path: Path, limits: Limits = Limits()) -> Iterator[Frame]:
    """Yield the chosen frames of an ultrasound image file, each decoded when it is asked for.

    Raises: QuarantineError, as `read_header` and `check_image` do, or no_pixels, truncated, decode_failed,
    unsupported_transfer_syntax.
    """
    total = check_image(read_header(path, limits), limits)
    data = _read_all(path, total)
    for number in frame_numbers(total, limits.max_frames):
        samples, photometric = _decode(data, number)
        with guarded(Reason.DECODE_FAILED, "colour cannot be read"):
            grey, coloured = to_grey(samples, data, photometric)
        yield Frame(number, grey, coloured)


def _read_all(path: Path, frames: int) -> Dataset:
    with guarded(Reason.TRUNCATED, "pixels cannot be read"):
        data = dcmread(path)
        pixels = data.get("PixelData")
    if not pixels:
        raise QuarantineError(Reason.NO_PIXELS, "holds no pixel data")
    if not data.file_meta.TransferSyntaxUID.is_encapsulated:
        rows, columns, samples = int(data.Rows), int(data.Columns), int(data.SamplesPerPixel)
        expected = rows * columns * samples * frames * int(data.BitsAllocated) // 8
        # YBR_FULL_422 stores two samples per pixel.
        expected = expected * 2 // 3 if data.get("PhotometricInterpretation") == "YBR_FULL_422" else expected
        if len(pixels) < expected:
            raise QuarantineError(Reason.TRUNCATED, f"{len(pixels)} of {expected} bytes of pixels")
    return data


def _decode(data: Dataset, number: int) -> tuple[npt.NDArray[Any], str]:
    """Return raw samples of one frame and their photometric interpretation after decoding."""
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return _decode_with(data, number, "")
    try:
        available = get_decoder(syntax).available_plugins
    except NotImplementedError as error:
        raise QuarantineError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"no decoder for {syntax.name}") from error
    for plugin in PLUGINS if syntax.name != "RLE Lossless" else ("pylibjpeg", "pydicom"):
        if plugin in available and (plugin != "gdcm" or inside_worker()):
            return _decode_with(data, number, plugin)
    raise QuarantineError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"no decoder for {syntax.name}")


def _decode_with(data: Dataset, number: int, plugin: str) -> tuple[npt.NDArray[Any], str]:
    with guarded(Reason.DECODE_FAILED, f"frame {number} cannot be decoded"):
        decoder = get_decoder(data.file_meta.TransferSyntaxUID)
        samples, about = decoder.as_array(data, index=number, raw=True, decoding_plugin=plugin)
    return samples, str(about["photometric_interpretation"])


def _whole(header: Dataset, keyword: str) -> int:
    try:
        return int(header.get(keyword, 0) or 0)
    except (TypeError, ValueError) as error:
        raise QuarantineError(Reason.BAD_DIMENSIONS, f"{keyword} is no number") from error
