"""One file, de-identified: header cleaned, every frame cleaned, written whole or not at all.

To be run in a worker of `fetalflex.dicom.sandbox` on files of unknown origin. Memory stays that of a few frames.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian

from fetalflex.artifacts import atomic
from fetalflex.deid.header import clean_header, object_kind, state_pixels_cleaned
from fetalflex.deid.keys import PseudonymKey
from fetalflex.deid.profile import Kind
from fetalflex.dicom.entry import OpenFile, guarded, open_dicom
from fetalflex.dicom.pixels import to_eight_bits
from fetalflex.dicom.read import FrameReader, frame_numbers
from fetalflex.dicom.stream import open_writer, save_little_endian, state_compression
from fetalflex.errors import QuarantineError, Reason
from fetalflex.params import Deidentify

Pixels = npt.NDArray[np.uint8]
SAMPLES = 5  # frames in which static text is looked for
LARGEST_ANNOTATION = 256 * 2**20


class Cleaner(Protocol):
    """What is needed of `fetalflex.deid.pixels.PixelCleaner`."""

    def prepare(self, frames: Iterable[Pixels]) -> None: ...  # noqa: D102
    def clean(self, pixels: Pixels) -> Any: ...  # noqa: D102


@dataclass
class FileReport:
    """What was done to a file, without any value of it.

    `kind`: image, segmentation or report. `uid`: the new SOP Instance UID. `texts`, `calipers`: rectangles found within
    the ultrasound, counted over all frames. `changes`: rows of `header.Changes`.
    """

    kind: str
    uid: str
    frames: int = 0
    texts: int = 0
    calipers: int = 0
    changes: list[dict[str, str | int]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)


def deidentify_file(
    source: Path, target: Path, options: Deidentify, center: str, key: PseudonymKey, words: Sequence[str] = ()
) -> FileReport:
    """Write the de-identified form of one image, segmentation or report; `target` appears whole or not at all.

    Samples that came uncompressed are written so, all others in RLE Lossless: nothing is lost a second time. Palettes
    and YBR become RGB, deeper grey becomes 8 bits. `words`: the center's own words for planes, kept in descriptors.
    Raises: QuarantineError with the reason why it cannot be used; nothing is written then.
    """
    *_, report = deidentify_steps(source, target, Request(options, center, key, words))
    return report


def deidentify_steps(source: Path, target: Path, request: "Request") -> Iterator[FileReport]:
    """Do the same, yielding the report after each frame: so that who waits sees that it goes on. The last one counts.

    Raises: QuarantineError, as `deidentify_file` does.
    """
    with open_dicom(source) as file:
        with guarded(Reason.DECODE_FAILED, "header cannot be read"):
            kind = object_kind(file.header)
        if kind == Kind.IMAGE:
            yield from _image(file, target, request)
            return
    yield _annotation(source, target, kind, request)


@dataclass(frozen=True)
class Request:
    """How files are to be de-identified; `center` and `key` make the pseudonyms."""

    options: Deidentify
    center: str
    key: PseudonymKey
    words: Sequence[str] = ()

    def clean(self, data: Dataset) -> list[dict[str, str | int]]:
        """Clean a header in place and return what was done."""
        return clean_header(data, self.options, self.center, self.key, self.words).rows()


def make_cleaner(header: Dataset) -> Cleaner:
    """Return what cleans the frames of a file."""
    from fetalflex.deid.pixels import PixelCleaner

    return PixelCleaner(header)


def _image(file: OpenFile, target: Path, request: Request) -> Iterator[FileReport]:
    """Clean an image, frame by frame. The file is opened and checked once; a still is decoded once."""
    reader, header = FrameReader(file), file.header
    total = reader.total
    cleaner, frames, data = make_cleaner(header), range(total), header
    cleaned: Iterator[Any]
    if total > 1:
        cleaner.prepare(_shown(reader, frame_numbers(total, SAMPLES)))
        cleaned, data = map(cleaner.clean, _shown(reader, frames)), file.parse_again()
    else:  # nothing asks for the header as it was, once the one frame is clean
        cleaned = iter([cleaner.clean(pixels) for pixels in _shown(reader, frames)])
    inverted = _is_inverted(header)
    with guarded(Reason.DECODE_FAILED, "header cannot be read"):
        raw = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * total
    changes = request.clean(data)
    state_pixels_cleaned(data)
    state_compression(data, file.syntax, raw / max(1, file.size))
    report = FileReport(Kind.IMAGE.value, str(data.SOPInstanceUID), total, changes=changes)
    with open_writer(target, data, total, "rle" if UID(file.syntax).is_encapsulated else "native") as writer:
        for frame in cleaned:
            report.texts += sum(mark.kind == "text" for mark in frame.marks)
            report.calipers += sum(mark.kind == "caliper" for mark in frame.marks)
            writer.add(255 - frame.pixels if inverted else frame.pixels)
            yield report
    yield report


def _shown(reader: FrameReader, numbers: Iterable[int]) -> Iterator[Pixels]:
    """Yield frames as they are to be cleaned. MONOCHROME1, where white is 0, is inverted: blanking paints black."""
    inverted = _is_inverted(reader.header)
    for number in numbers:
        samples, photometric = reader.samples(number)
        with guarded(Reason.DECODE_FAILED, "colour cannot be read"):
            native = samples.astype(samples.dtype.newbyteorder("="), copy=False)
            shown = to_eight_bits(native, reader.header, photometric)
        yield 255 - shown if inverted else shown


def _is_inverted(header: Dataset) -> bool:
    return bool(header.get("PhotometricInterpretation") == "MONOCHROME1")


def _annotation(source: Path, target: Path, kind: Kind, request: Request) -> FileReport:
    """Clean a segmentation or report: small, so read whole. Its masks and outlines are anatomy, nobody's name."""
    size = source.stat().st_size
    if size > LARGEST_ANNOTATION:
        raise QuarantineError(Reason.TOO_LARGE, f"annotation of {size} bytes; the limit is {LARGEST_ANNOTATION}")
    with guarded(Reason.DECODE_FAILED, "annotation cannot be read"):
        data = dcmread(source)
        syntax = data.file_meta.TransferSyntaxUID
        if kind == Kind.SEGMENTATION and not syntax.is_encapsulated:
            _check_mask_bytes(data)
        changes = request.clean(data)
        if kind == Kind.REPORT and "PixelData" in data:
            del data.PixelData
        if not syntax.is_encapsulated:
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        with atomic(target) as partial, partial.open("wb+") as stream:
            save_little_endian(data, stream)
    return FileReport(kind.value, str(data.SOPInstanceUID), int(data.get("NumberOfFrames", 0) or 0), changes=changes)


def _check_mask_bytes(data: Dataset) -> None:
    """Refuse masks with more bytes than their frames need: what follows the last frame could say anything."""
    bits = int(data.Rows) * int(data.Columns) * int(data.get("NumberOfFrames", 0) or 0) * int(data.BitsAllocated)
    expected = (bits + 7) // 8
    found = len(data.get("PixelData") or b"")
    if found not in (expected, expected + expected % 2):
        raise QuarantineError(Reason.LYING_LENGTH, f"masks of {found} bytes; expected {expected}")
