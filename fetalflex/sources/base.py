"""What every source of raw DICOM is: something that can be counted, and fetched into a center's folder.

A source is not trusted. What it offers arrives byte for byte under keyed names; nothing here reads DICOM.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import QuarantineError, Reason

MEBI = 2**20
BLOCK = MEBI


@dataclass(frozen=True)
class Limits:
    """What is refused before it fills the disk. `expansion`: bytes out of an archive per byte of it."""

    file_bytes: int = 2048 * MEBI
    members: int = 1_000_000  # of one archive
    expansion: int = 100
    grace_bytes: int = 256 * MEBI  # an archive may expand to this, whatever its own size
    depth: int = 64  # folders within folders


@dataclass(frozen=True)
class Listing:
    """What a source holds, before anything is fetched. `size_bytes` is None where a server does not tell it."""

    kind: Literal["folder", "archive", "dicomweb"]
    instances: int
    size_bytes: int | None
    refused: Mapping[Reason, int] = field(default_factory=dict)
    patients: int | None = None  # these three are known of a server only
    studies: int | None = None
    by_modality: Mapping[str, int] = field(default_factory=dict)  # instances


@dataclass(frozen=True)
class Fetched:
    """One offered instance has arrived (`new`), was there already (`known`), or is `refused` for a reason.

    `id` is a keyed hash; the file that is there is `<center>/<first two digits>/<id>.dcm`.
    """

    id: str
    state: Literal["new", "known", "refused"]
    size_bytes: int
    number: int
    total: int
    reason: Reason | None = None
    detail: str = ""


class Source(Protocol):
    """A folder, an archive or a DICOMweb server."""

    def listing(self) -> Listing:
        """Count what is there. Raises: SourceError where the source cannot be read or holds nothing."""

    def fetch(self, into: Path, key: PseudonymKey) -> Iterator[Fetched]:
        """Lay every instance that is not there yet into the folder `into`, one at a time; goes on after a kill.

        Raises: SourceError where the source fails as a whole; WorkspaceError where another fetch is at work.
        """


@dataclass(frozen=True)
class Offer:
    """One instance that a source could deliver now.

    `name` (a path, a UID) is never shown, only hashed. `stamp` differs where the content may differ. `deliver` writes
    it whole to a path, or raises QuarantineError. `refused`: why it is not even tried. `by_content`: its bytes decide
    what it is (files: other trees use the same names), else its name does (a server's UIDs: it may word a file anew).
    """

    name: str
    stamp: str
    size_bytes: int
    deliver: Callable[[Path], None]
    refused: QuarantineError | None = None
    by_content: bool = True


def refuse(name: str, reason: Reason, detail: str) -> Offer:
    """Return an offer that is refused."""
    return Offer(name, "", 0, _nothing, QuarantineError(reason, detail))


def count(kind: Literal["folder", "archive"], offers: Iterator[Offer]) -> Listing:
    """Return how many instances are offered and refused, and their bytes."""
    number, size, refused = 0, 0, Counter[Reason]()
    for offer in offers:
        if offer.refused is None:
            number, size = number + 1, size + offer.size_bytes
        else:
            refused[offer.refused.reason] += 1
    return Listing(kind, number, size, dict(refused))


def write_blocks(blocks: Iterator[bytes], path: Path, limit: int) -> int:
    """Write blocks to a new file that only its owner reads, down to the disk; return its size in bytes.

    Raises: QuarantineError (TOO_LARGE) beyond `limit` bytes.
    """
    size = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as out:  # noqa: PTH123 - a descriptor
        for block in blocks:
            size += len(block)
            if size > limit:
                raise QuarantineError(Reason.TOO_LARGE, f"more than {limit} bytes")
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return size


def read_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield a stream's bytes in blocks."""
    while block := stream.read(BLOCK):
        yield block


def _nothing(path: Path) -> None:
    raise NotImplementedError(f"{path.name}: a refused offer delivers nothing")
