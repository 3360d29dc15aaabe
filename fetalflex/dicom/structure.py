"""The skeleton of a DICOM file, element by element, held against the file's own size before any parser believes it.

pydicom reads what a length says, recurses as deep as sequences nest, and keeps quiet where a value ends early. So
every length is checked here first, without recursion and without reading a value.
Source: DICOM PS3.5 7.1 (data elements), 7.5 (sequences), PS3.10 7.1 (preamble and file meta).
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from fetalflex.errors import QuarantineError, Reason

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
PIXELS = (PIXEL_DATA, 0x7FE00008, 0x7FE00009)
HEAD_BYTES = 132
MAX_DEPTH = 32  # structured reports nest about a dozen deep
MAX_ELEMENTS = 500_000
SYNTAX = 0x00020010
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
KNOWN = frozenset(v.encode() for v in VR)
LONG = frozenset(v.encode() for v in EXPLICIT_VR_LENGTH_32)
# First bytes that make a preamble a program (MZ also heads PE files); a TIFF's (II*, MM) are legal and common.
PROGRAMS = (
    b"MZ", b"ZM", b"\x7fELF", b"#!", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe", b"\xbe\xba\xfe\xca", b"\0asm", b"dex\n", b"!<arch>", b"L\0\0\0\x01\x14\x02\0", b"@echo",
)  # fmt: skip


@dataclass(frozen=True)
class PixelPlace:
    """Where the value of Pixel Data lies: first byte, length (None: undefined, encapsulated), VR ("" if implicit)."""

    start: int
    length: int | None
    vr: str


@dataclass(frozen=True)
class Structure:
    """What was found: where the data set begins and its pixels, if there are any."""

    start: int
    pixels: PixelPlace | None


@dataclass
class _Level:
    """An open data set ("set"), sequence of items ("items") or fragments ("raw"); `end` None: a delimiter ends it."""

    kind: str
    end: int | None
    limit: int
    implicit: bool


def check_preamble(head: bytes) -> None:
    """Raises: QuarantineError not_dicom without DICM at byte 128, executable where the preamble is a program's."""
    if head[128:HEAD_BYTES] != b"DICM":
        raise QuarantineError(Reason.NOT_DICOM, "has no DICOM preamble")
    if head.startswith(PROGRAMS):
        raise QuarantineError(Reason.EXECUTABLE, "its preamble is the head of a program")


def scan_meta(stream: BinaryIO, size: int) -> tuple[str, int]:
    """Return the transfer syntax ("" where none is stated) and where the data set begins.

    Raises: QuarantineError lying_length or truncated.
    """
    position, syntax = HEAD_BYTES, ""
    while position + 8 <= size:
        tag, vr, length, value = _element(stream, position, implicit=False, order="<")
        if tag >> 16 != 2:
            break
        if length == UNDEFINED or value + length > size:
            raise _beyond(length, size, size)
        if tag == SYNTAX and vr == b"UI":
            stream.seek(value)
            syntax = stream.read(min(length, 64)).rstrip(b"\0 ").decode("ascii", "replace")
        position = value + length
    return syntax, position


def scan_structure(stream: BinaryIO, size: int, syntax: str, start: int) -> Structure:
    """Return the skeleton of the data set that begins at byte `start` of a stream of `size` bytes, up to its pixels.

    Raises: QuarantineError lying_length, truncated, nested_too_deep or too_large (more elements than any real header).
    """
    order = ">" if syntax == BIG_ENDIAN else "<"
    levels = [_Level("set", size, size, syntax == IMPLICIT)]
    position = start
    for _ in range(MAX_ELEMENTS):
        while levels and levels[-1].end is not None and position >= (levels[-1].end or 0):
            if position > (levels[-1].end or 0):
                raise QuarantineError(Reason.LYING_LENGTH, "an item is longer than its sequence")
            levels.pop()
        if not levels:
            return Structure(start, None)
        level = levels[-1]
        if position + 8 > level.limit:
            if len(levels) == 1:  # fewer bytes than an element has: padding
                return Structure(start, None)
            raise QuarantineError(Reason.TRUNCATED, "ends within a sequence")
        tag, vr, length, value = _element(stream, position, level.implicit or level.kind != "set", order)
        if len(levels) == 1 and tag in PIXELS:
            return Structure(start, PixelPlace(value, None if length == UNDEFINED else length, vr.decode()))
        position = _step(levels, (tag, vr, length, value), size)
        if len(levels) > 2 * MAX_DEPTH + 1:
            raise QuarantineError(Reason.NESTED_TOO_DEEP, f"sequences more than {MAX_DEPTH} deep")
    raise QuarantineError(Reason.TOO_LARGE, f"more than {MAX_ELEMENTS} elements")


def _step(levels: list[_Level], element: tuple[int, bytes, int, int], size: int) -> int:
    """Enter, leave or pass over one element; return where the next one begins."""
    tag, vr, length, value = element
    level = levels[-1]
    if tag in (ITEM_END, SEQUENCE_END):
        if len(levels) == 1:
            return size  # parsers take a stray delimiter for the end, and so do we
        if (tag == SEQUENCE_END) != (level.kind != "set") or level.end is not None:
            raise QuarantineError(Reason.LYING_LENGTH, "a sequence ends where it should not")
        levels.pop()
        return value
    end = None if length == UNDEFINED else value + length
    if end is not None and end > level.limit:
        raise _beyond(length, level.limit, size)
    limit = level.limit if end is None else end
    if level.kind != "set":
        if tag != ITEM:
            raise QuarantineError(Reason.LYING_LENGTH, "a sequence holds something that is no item")
        if level.kind == "raw":
            if end is None:
                raise QuarantineError(Reason.LYING_LENGTH, "a fragment states no length")
            return end
        levels.append(_Level("set", end, limit, level.implicit))
        return value
    if vr == b"SQ" or (end is None and vr in (b"UN", b"")) or (not vr and _is_sequence(tag)):
        # PS3.5 6.2.2: what is unknown and of undefined length is a sequence in implicit VR.
        levels.append(_Level("items", end, limit, level.implicit or vr == b"UN"))
        return value
    if end is None:
        if vr not in (b"OB", b"OW"):
            raise QuarantineError(Reason.LYING_LENGTH, "a value states no length")
        levels.append(_Level("raw", None, limit, level.implicit))
        return value
    return end


def _element(stream: BinaryIO, position: int, implicit: bool, order: str) -> tuple[int, bytes, int, int]:
    """Return tag, VR (empty if implicit), length and the value's first byte of the element at `position`."""
    stream.seek(position)
    head = stream.read(12)
    group, number = struct.unpack(f"{order}HH", head[:4])
    tag, vr = group << 16 | number, head[4:6]
    if implicit or not b"AA" <= vr <= b"ZZ" or not vr.isalpha():
        # Delimiters have no VR, and some writers slip into implicit VR: what is no VR is the length's first half.
        return tag, b"", struct.unpack(f"{order}L", head[4:8])[0], position + 8
    if vr in LONG:
        if len(head) < 12:
            raise QuarantineError(Reason.TRUNCATED, "ends within an element")
        return tag, vr, struct.unpack(f"{order}L", head[8:12])[0], position + 12
    return tag, vr, struct.unpack(f"{order}H", head[6:8])[0], position + 8


def _is_sequence(tag: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


def _beyond(length: int, limit: int, size: int) -> QuarantineError:
    """Return what to call a value that runs past its container: cut off, or longer than could ever have been there."""
    if limit < size:
        return QuarantineError(Reason.LYING_LENGTH, "a value is longer than the item that holds it")
    if length > size:
        return QuarantineError(Reason.LYING_LENGTH, f"a value of {length} bytes in a file of {size}")
    return QuarantineError(Reason.TRUNCATED, "ends within a value")
