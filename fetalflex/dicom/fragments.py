"""Where each frame of encapsulated pixel data lies: from the fragments' own heads, held against the file's size.

Source: DICOM PS3.5 A.4 (encapsulation, Basic Offset Table), PS3.3 C.7.6.3.1.8 (Extended Offset Table).
"""

import struct
from itertools import pairwise
from typing import BinaryIO

from fetalflex.dicom.structure import ITEM, SEQUENCE_END, UNDEFINED
from fetalflex.errors import QuarantineError, Reason

Fragment = tuple[int, int]  # first byte of its value, length
MAX_FRAGMENTS = 500_000
MAX_FRAGMENT_BYTES = 96 * 2**20  # the largest frame that is read, not compressed: a cut file can state no more
END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 code streams
TAIL_BYTES = 10


def find_frames(
    stream: BinaryIO, start: int, size: int, frames: int, *, one_each: bool = False
) -> tuple[tuple[Fragment, ...], ...]:
    """Return the fragments of each frame of the pixel data whose value begins at `start`.

    `one_each`: the transfer syntax allows one fragment per frame only (RLE). Offsets, where stated, must point at
    fragments; without them the marker that ends an image tells frames apart. Nothing is guessed.
    Raises: QuarantineError no_pixels, truncated or lying_length.
    """
    offsets, fragments, cut = _read_items(stream, start, size)
    if not fragments:
        raise QuarantineError(Reason.TRUNCATED if cut else Reason.NO_PIXELS, "has no fragment of an image")
    if len(fragments) < frames or (one_each and len(fragments) != frames):
        what = f"{len(fragments)} fragments for {frames} frames"
        raise QuarantineError(Reason.TRUNCATED if cut else Reason.LYING_LENGTH, what)
    if offsets:
        groups = _by_offsets(offsets, fragments)
    elif frames == 1:
        groups = [fragments]
    elif len(fragments) == frames:
        groups = [[f] for f in fragments]
    else:
        groups = _by_markers(stream, fragments)
    if len(groups) != frames:
        raise QuarantineError(Reason.LYING_LENGTH, f"{len(groups)} images in the fragments of {frames} frames")
    return tuple(tuple(group) for group in groups)


def read_frame(stream: BinaryIO, fragments: tuple[Fragment, ...]) -> bytes:
    """Return the bytes of one frame."""
    parts = []
    for start, length in fragments:
        stream.seek(start)
        parts.append(stream.read(length))
    return b"".join(parts)


def _read_items(stream: BinaryIO, start: int, size: int) -> tuple[list[int], list[Fragment], bool]:
    """Return the Basic Offset Table, the fragments, and whether the file ends without the sequence's end."""
    offsets: list[int] | None = None
    fragments: list[Fragment] = []
    position = start
    while position + 8 <= size and len(fragments) < MAX_FRAGMENTS:
        stream.seek(position)
        group, element, length = struct.unpack("<HHL", stream.read(8))
        tag, value = group << 16 | element, position + 8
        if tag == SEQUENCE_END:
            return offsets or [], fragments, False
        if tag != ITEM or length == UNDEFINED:
            raise QuarantineError(Reason.LYING_LENGTH, "its fragments do not follow one another")
        if value + length > size:
            reason = Reason.LYING_LENGTH if length > MAX_FRAGMENT_BYTES else Reason.TRUNCATED
            raise QuarantineError(reason, f"a fragment of {length} bytes ends after the file of {size}")
        if offsets is None:
            if length % 4:
                raise QuarantineError(Reason.LYING_LENGTH, f"an offset table of {length} bytes")
            offsets = list(struct.unpack(f"<{length // 4}L", stream.read(length)))
        else:
            fragments.append((value, length))
        position = value + length
    if len(fragments) >= MAX_FRAGMENTS:
        raise QuarantineError(Reason.TOO_LARGE, f"more than {MAX_FRAGMENTS} fragments")
    return offsets or [], fragments, True


def _by_offsets(offsets: list[int], fragments: list[Fragment]) -> list[list[Fragment]]:
    """Group fragments by a Basic Offset Table: bytes from the first fragment's head to each frame's."""
    first = fragments[0][0] - 8
    numbers = {start - 8 - first: i for i, (start, _) in enumerate(fragments)}
    places = [numbers.get(offset, -1) for offset in offsets]
    if places[0] != 0 or any(a >= b for a, b in pairwise(places)):
        raise QuarantineError(Reason.LYING_LENGTH, "its offset table points beside the fragments")
    return [fragments[a:b] for a, b in zip(places, [*places[1:], len(fragments)], strict=True)]


def _by_markers(stream: BinaryIO, fragments: list[Fragment]) -> list[list[Fragment]]:
    groups: list[list[Fragment]] = [[]]
    for start, length in fragments:
        groups[-1].append((start, length))
        tail = min(length, TAIL_BYTES)
        stream.seek(start + length - tail)
        if END_OF_IMAGE in stream.read(tail):
            groups.append([])
    return [group for group in groups if group]
