"""Compressed streams read forwards in bounded memory: what hides behind a few bytes is counted as it comes out."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from fetalflex.errors import QuarantineError, Reason

STEP = 256 * 1024  # bytes out of a decompressor at a time
MEMORY = 128 * 2**20  # an .xz may ask for 4 GiB of dictionary
HEADER_BYTES = 8192  # of a tar's extended header: tarfile reads it whole, and searches it in quadratic time
TAIL = 1024


class Decompressor(Protocol):
    """One compressed stream, expanded at most so many bytes at a time."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """What follows its end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `max_length` bytes; what is left of `data` is kept."""


class _Gzip:
    """zlib hands unread input back where the others keep it."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def open_decompressor(kind: str) -> Decompressor:
    """Return a decompressor for `gz`, `bz2` or `xz`."""
    if kind == "gz":
        return _Gzip()
    return bz2.BZ2Decompressor() if kind == "bz2" else lzma.LZMADecompressor(memlimit=MEMORY)


def expand(stream: BinaryIO, kind: str) -> Iterator[bytes]:
    """Yield what a compressed file holds, at most STEP bytes at a time; streams set end to end are one.

    Raises: QuarantineError (DAMAGED_ARCHIVE) where it is damaged, cut off or asks for too much memory.
    """
    if kind == "tar":
        while block := stream.read(STEP):
            yield block
        return
    inner, data = open_decompressor(kind), b""
    try:
        while True:
            out = inner.decompress(data, STEP)
            data = b""
            if out:
                yield out
            if inner.eof:
                data = (inner.unused_data or stream.read(STEP)).lstrip(b"\0")  # padding between streams is allowed
                if not data:
                    return
                inner = open_decompressor(kind)
            elif not out:
                data = stream.read(STEP)
                if not data:
                    raise QuarantineError(Reason.DAMAGED_ARCHIVE, f"the {kind} stream is cut off")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise QuarantineError(Reason.DAMAGED_ARCHIVE, f"no whole {kind} stream ({type(error).__name__})") from None


class Forward:
    """A forward-only file over blocks, for `tarfile`; it stops where more comes out than `allowed` bytes.

    `read` is for headers and bounded; `skip_to` and `take` move through members block by block.
    """

    def __init__(self, blocks: Iterator[bytes], allowed: int) -> None:
        self._blocks, self._allowed = blocks, allowed
        self._buffer, self._start, self._at = b"", 0, 0  # the buffer's place in the stream, and ours

    def tell(self) -> int:
        """Return the position in the expanded stream."""
        return self._at

    def seek(self, position: int) -> int:
        """Move forwards, or back by less than TAIL bytes. Raises: QuarantineError for anything else."""
        if position < self._start:
            raise QuarantineError(Reason.DAMAGED_ARCHIVE, "the tar points backwards")
        while position > self._start + len(self._buffer) and self._more():
            pass
        self._at = min(position, self._start + len(self._buffer))
        return self._at

    def read(self, size: int) -> bytes:
        """Return a header's bytes. Raises: QuarantineError (BOMB) for one that no real archive has."""
        if not 0 <= size <= HEADER_BYTES:
            raise QuarantineError(Reason.BOMB, f"a header of {size} bytes; at most {HEADER_BYTES} are read")
        return b"".join(self.take(size))

    def take(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes, or fewer at the end, in blocks."""
        while size > 0:
            offset = self._at - self._start
            if offset >= len(self._buffer) and not self._more():
                return
            offset = self._at - self._start
            block = self._buffer[offset : offset + size]
            self._at += len(block)
            size -= len(block)
            yield block

    def _more(self) -> bool:
        """Read one block more, keeping a short tail for small steps back."""
        block = next(self._blocks, b"")
        if not block:
            return False
        self._allowed -= len(block)
        if self._allowed < 0:
            raise QuarantineError(Reason.BOMB, "expands to far more than its own size")
        kept = self._buffer[-TAIL:]
        self._start += len(self._buffer) - len(kept)
        self._buffer = kept + block
        return True
