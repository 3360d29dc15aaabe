"""Zip and tar archives as sources: members are streamed one by one into keyed names, nothing is unpacked elsewhere.

A member's path is only ever hashed. Links, devices, encrypted members, absolute paths and `..` are refused; an archive
that expands beyond measure ends in a named reason. Sources of the hazards: CVE-2007-4559 (tar paths), CVE-2024-6232
(tarfile's header search), D. Fifield 2019, "A better zip bomb" (overlapping members).
"""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, cast

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import QuarantineError, Reason, SourceError
from fetalflex.sources.base import Fetched, Limits, Listing, Offer, count, read_blocks, refuse, write_blocks
from fetalflex.sources.expand import Forward, expand
from fetalflex.sources.landing import land

SNIFFED = 512
DIRECTORY_BYTES = 32 * 2**20  # of a zip's table of contents, which zipfile reads whole
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
MAGIC = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b\x08": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
ENCRYPTED_FLAG = 0x1


def sniff(head: bytes, name: str) -> str | None:
    r"""Return zip, tar, gz, bz2 or xz by a file's first 512 bytes, or None. What says DICM is DICOM, whatever else.

    >>> sniff(b"PK" + bytes(126) + b"DICM", "image.zip"), sniff(b"PK\x03\x04", "image")
    (None, 'zip')
    """
    if head[128:132] == b"DICM":
        return None
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if head[257:262] == b"ustar" or name.lower().endswith(".tar") else None


@dataclass
class ArchiveSource:
    """One archive: zip, tar, tar.gz, tar.bz2 or tar.xz. Raises: SourceError where `path` is none."""

    path: Path
    limits: Limits = field(default_factory=Limits)
    _listing: Listing | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        with self._open() as stream:
            kind = sniff(stream.read(SNIFFED), self.path.name)
        if kind is None:
            raise SourceError(f"{self.path}: is no archive; expected zip, tar, tar.gz, tar.bz2 or tar.xz, or a folder")
        self.kind = kind

    def listing(self) -> Listing:
        """Count members, once; a compressed tar must be read through for that."""
        if self._listing is None:
            self._listing = count("archive", self._offers())
        if not self._listing.instances:
            reasons = ", ".join(sorted(self._listing.refused)) or "it is empty"
            raise SourceError(f"{self.path}: holds no member that can be taken ({reasons})")
        return self._listing

    def fetch(self, into: Path, key: PseudonymKey) -> Iterator[Fetched]:
        """Lay new and changed members into `into`. Raises: SourceError, WorkspaceError."""
        listing = self.listing()
        yield from land(self._offers(), into, key, listing.instances + sum(listing.refused.values()))

    def _offers(self) -> Iterator[Offer]:
        with self._open() as stream:
            yield from offer_members(stream, self.kind, self.limits, "")

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read ({error.strerror})") from None


def offer_members(stream: BinaryIO, kind: str, limits: Limits, prefix: str) -> Iterator[Offer]:
    """Yield the members of an archive, then, where it had to be left early, one refusal that says why."""
    size = stream.seek(0, 2)
    stream.seek(0)
    allowed = max(limits.grace_bytes, size * limits.expansion)
    try:
        if kind == "zip":
            yield from _offer_zip(stream, limits, allowed, prefix)
        else:
            yield from _offer_tar(Forward(expand(stream, kind), allowed), limits, prefix)
    except QuarantineError as error:
        yield refuse(f"{prefix}the archive itself", error.reason, f"{error.detail}; the rest of the archive is unread")


class _Bounded:
    """A zip's file, which is not read whole into memory on the word of its own header."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self.seek, self.tell = inner.seek, inner.tell

    def read(self, size: int = -1) -> bytes:
        if size > DIRECTORY_BYTES:
            raise QuarantineError(Reason.BOMB, f"a table of contents of {size} bytes; at most {DIRECTORY_BYTES}")
        return self._inner.read(size)

    def seekable(self) -> bool:
        return True


def _offer_zip(stream: BinaryIO, limits: Limits, allowed: int, prefix: str) -> Iterator[Offer]:
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], _Bounded(stream)))
    except DAMAGE as error:
        raise QuarantineError(Reason.DAMAGED_ARCHIVE, f"no whole zip ({type(error).__name__})") from None
    members = [m for m in archive.infolist() if not m.is_dir()]
    declared = sum(m.file_size for m in members)
    if len(members) > limits.members:
        raise QuarantineError(Reason.BOMB, f"{len(members)} members; at most {limits.members} are read")
    if declared > allowed:
        raise QuarantineError(Reason.BOMB, f"expands to {declared} bytes, far more than its own size")
    for member in members:
        yield _zip_member(archive, member, limits, prefix)


def _zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limits: Limits, prefix: str) -> Offer:
    mode = member.external_attr >> 16
    error = _wrong_path(member.orig_filename) or _wrong_size(member.file_size, limits)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        error = QuarantineError(Reason.OUTSIDE_TREE, "is a link or a device, no regular file")
    elif member.flag_bits & ENCRYPTED_FLAG:
        error = QuarantineError(Reason.ENCRYPTED, "an encrypted member; decrypt the archive at its source")
    elif member.compress_type not in COMPRESSIONS:
        error = QuarantineError(Reason.DAMAGED_ARCHIVE, f"compression {member.compress_type} of zip is not read")
    deliver = partial(_unzip, archive, member, limits.file_bytes)
    stamp = f"{member.file_size}-{member.CRC:08x}"
    return Offer(prefix + member.orig_filename, stamp, member.file_size, deliver, error)


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int, target: Path) -> None:
    write_blocks(_zip_blocks(archive, member), target, limit)


def _zip_blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member's bytes, its checksum tested at the end; the writer's own errors are not caught here."""
    try:
        with archive.open(member) as stream:
            yield from _refuse_nested(read_blocks(cast(BinaryIO, stream)))
    except DAMAGE as error:
        raise QuarantineError(Reason.DAMAGED_ARCHIVE, f"the member is damaged ({type(error).__name__})") from None


def _offer_tar(stream: Forward, limits: Limits, prefix: str) -> Iterator[Offer]:
    number, offset = 0, -1
    try:
        archive = tarfile.TarFile(fileobj=cast(IO[bytes], stream), errors="surrogateescape")
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined] # else they pile up
            number += 1
            if number > limits.members:
                raise QuarantineError(Reason.BOMB, f"more than {limits.members} members")
            if member.offset <= offset or member.size < 0:
                raise QuarantineError(Reason.DAMAGED_ARCHIVE, "the tar runs in a circle")
            offset = member.offset
            if not member.isdir():
                yield _tar_member(stream, member, limits, prefix)
        stream.seek(archive.offset)  # tarfile takes a damaged header for the end
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise QuarantineError(Reason.DAMAGED_ARCHIVE, f"the header after member {number} is damaged")
    except (tarfile.TarError, ValueError, EOFError, RecursionError, OverflowError) as error:
        raise QuarantineError(Reason.DAMAGED_ARCHIVE, f"no whole tar ({type(error).__name__})") from None


def _tar_member(stream: Forward, member: tarfile.TarInfo, limits: Limits, prefix: str) -> Offer:
    error = _wrong_path(member.name) or _wrong_size(member.size, limits)
    if not member.isreg() or member.issparse():
        error = QuarantineError(Reason.OUTSIDE_TREE, "is a link, a device or sparse, no regular file")
    deliver = partial(_untar, stream, member, limits.file_bytes)
    return Offer(prefix + member.name, f"{member.size}-{int(member.mtime)}", member.size, deliver, error)


def _untar(stream: Forward, member: tarfile.TarInfo, limit: int, target: Path) -> None:
    stream.seek(member.offset_data)
    size = write_blocks(_refuse_nested(stream.take(member.size)), target, limit)
    if size != member.size:
        raise QuarantineError(Reason.DAMAGED_ARCHIVE, f"ends after {size} of {member.size} bytes")


def _refuse_nested(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass blocks on, unless they begin an archive in its turn: one level is opened, no more."""
    first = next(blocks, b"")
    if sniff(first[:SNIFFED], "") is not None:
        raise QuarantineError(Reason.NOT_DICOM, "an archive inside an archive is not opened; unpack the outer one")
    yield first
    yield from blocks


def _wrong_path(name: str) -> QuarantineError | None:
    parts = name.replace("\\", "/").split("/")
    if "\0" in name:
        return QuarantineError(Reason.OUTSIDE_TREE, "its path holds a zero byte")
    if parts[0] == "" or parts[0].endswith(":"):
        return QuarantineError(Reason.OUTSIDE_TREE, "its path is absolute")
    if ".." in parts:
        return QuarantineError(Reason.OUTSIDE_TREE, "its path climbs out of the archive")
    return None


def _wrong_size(size: int, limits: Limits) -> QuarantineError | None:
    if size > limits.file_bytes:
        return QuarantineError(Reason.TOO_LARGE, f"{size} bytes; at most {limits.file_bytes} are taken")
    return None
