"""The door for every raw DICOM file: sizes, preamble, lengths, nesting and identifiers are checked before it is parsed.

What is wrong has a name (`fetalflex.errors.Reason`); nothing is guessed, and no error's text leaves, since it may
quote the header. Raw files come here in a worker only (`fetalflex.dicom.sandbox`).
"""

import logging
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, config, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from fetalflex.dicom.structure import HEAD_BYTES, PixelPlace, check_preamble, scan_meta, scan_structure
from fetalflex.errors import QuarantineError, Reason

# pydicom's warnings and log lines quote header values, and those may be identifiers.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
_QUIET = threading.RLock()

DEFLATED = "1.2.840.10008.1.2.1.99"
PIECE_BYTES = 2**20
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
TEXTS = ("PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID")
# PS3.5 9.1, but for leading zeros of a component, which devices do write.
VALID_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
LONGEST_UID = 64
# Of control characters only ESC may stand in these (it switches character sets, PS3.5 6.1.2.5.3). A slash alone is
# common in patient numbers; a step up a folder tree never is one.
CONTROL = re.compile(r"[\x00-\x1a\x1c-\x1f\x7f]")
STEP_UP = re.compile(r"(^|[/\\])\s*\.\.\s*([/\\]|$)")


@dataclass(frozen=True)
class Limits:
    """What is too large to be an ultrasound image, or too small to be one; in bytes and pixels.

    `max_clip_pixels`: of all frames together. `max_frames`: how many are taken of a clip.
    """

    max_bytes: int = 2 * 2**30
    max_inflated_bytes: int = 128 * 2**20
    max_side: int = 8192
    max_pixels: int = 16 * 2**20
    max_clip_pixels: int = 4 * 2**30
    min_side: int = 48
    max_frames: int = 2

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}; expected at least 1")


LIMITS = Limits()


@dataclass(frozen=True, eq=False)
class OpenFile:
    """An open DICOM file: `header` without pixels and with file meta, and where in `stream` (`size` bytes) they lie.

    Of a deflated file `stream` is the inflated one and `header.file_meta` says so; `syntax` is what the file states.
    """

    header: Dataset
    stream: BinaryIO
    size: int
    syntax: str
    pixels: PixelPlace | None

    def parse_again(self) -> Dataset:
        """Return another header of its own, to be changed while `header` stays; its structure was checked already."""
        self.stream.seek(0)
        with guarded(Reason.DECODE_FAILED, "header cannot be read"):
            return dcmread(self.stream, stop_before_pixels=True)


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


@contextmanager
def open_dicom(path: Path, limits: Limits = LIMITS) -> Iterator[OpenFile]:
    """Open a DICOM file of any kind, its header parsed and its identifiers checked; pixels are not read.

    Raises: QuarantineError unreadable, not_dicom, executable, too_large, bomb, truncated, lying_length,
    nested_too_deep, bad_identifier, unsupported_transfer_syntax or decode_failed.
    """
    try:
        size, opened = path.stat().st_size, path.open("rb")
    except OSError as error:  # its text would name the path
        raise QuarantineError(Reason.UNREADABLE, f"cannot be opened ({type(error).__name__})") from None
    with opened as file:
        if size > limits.max_bytes:
            raise QuarantineError(Reason.TOO_LARGE, f"{size} bytes; the limit is {limits.max_bytes}")
        stream: BinaryIO = file
        with guarded(Reason.DECODE_FAILED, "header cannot be read"):
            check_preamble(file.read(HEAD_BYTES))
            syntax, start = scan_meta(file, size)
            if not syntax or not UID(syntax).is_transfer_syntax:
                raise QuarantineError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, "states no transfer syntax of the standard")
            if syntax == DEFLATED:
                stream, start = _inflate(file, start, limits.max_inflated_bytes)
                size = stream.seek(0, 2)
            inner = syntax if stream is file else str(ExplicitVRLittleEndian)
            structure = scan_structure(stream, size, inner, start)
            stream.seek(0)
            header = dcmread(stream, stop_before_pixels=True)
            check_identifiers(header)
        yield OpenFile(header, stream, size, syntax, structure.pixels)


def read_header(path: Path, limits: Limits = LIMITS) -> Dataset:
    """Return the header (without pixels) of any DICOM file, with its file meta. Raises: as `open_dicom`."""
    with open_dicom(path, limits) as file:
        return file.header


def check_identifiers(header: Dataset) -> None:
    """Refuse UIDs that are none, and numbers that hold control characters or a path upwards.

    Absent and empty ones pass: a missing UID has its own treatment.
    Raises: QuarantineError bad_identifier, naming the attribute and never its value.
    """
    named = [(name, str(header.get(name) or "")) for name in UIDS]
    named.append(("MediaStorageSOPInstanceUID", str(header.file_meta.get("MediaStorageSOPInstanceUID") or "")))
    for name, value in named:
        text = value.rstrip("\0 ")
        if text and (len(text) > LONGEST_UID or not VALID_UID.fullmatch(text)):
            raise QuarantineError(Reason.BAD_IDENTIFIER, f"{name} is no UID")
    for name in TEXTS:
        value = header.get(name)
        parts = [value] if value is None or isinstance(value, str) else list(value)
        for part in parts:
            text = str(part or "").rstrip("\0 ")
            if CONTROL.search(text) or STEP_UP.search(text):
                raise QuarantineError(Reason.BAD_IDENTIFIER, f"{name} holds control characters or a path")


def _inflate(file: BinaryIO, start: int, limit: int) -> tuple[BinaryIO, int]:
    """Return the inflated file as explicit VR little endian, and where its data set begins.

    Source: DICOM PS3.5 A.5 (RFC 1951, no header). Raises: QuarantineError bomb or truncated.
    """
    file.seek(0)
    meta: FileMetaDataset = dcmread(BytesIO(file.read(start)), specific_tags=[]).file_meta
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole = BytesIO()
    whole.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(whole, meta, enforce_standard=False)
    begin = whole.tell()
    file.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        piece = inflater.unconsumed_tail or file.read(PIECE_BYTES)
        if not piece:
            raise QuarantineError(Reason.TRUNCATED, "its compressed data set ends too early")
        whole.write(inflater.decompress(piece, PIECE_BYTES))
        if whole.tell() - begin > limit:
            raise QuarantineError(Reason.BOMB, f"inflates to more than {limit >> 20} MiB")
    return whole, begin
