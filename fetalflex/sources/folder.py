"""A folder tree as a source: regular files of the tree, and the members of archives in it; nothing else.

No link is followed, neither by a path's end nor on its way: every file is opened beside its folder's descriptor.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fetalflex.deid.keys import PseudonymKey
from fetalflex.errors import QuarantineError, Reason, SourceError, UsageError
from fetalflex.sources.archive import SNIFFED, offer_members, sniff
from fetalflex.sources.base import Fetched, Limits, Listing, Offer, count, read_blocks, refuse, write_blocks
from fetalflex.sources.landing import land

NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True)
class _File:
    """A regular file: its name beside an open folder, and what it was when it was listed."""

    name: str
    folder: int
    found: os.stat_result


@dataclass
class FolderSource:
    """A tree of files. Files arrive as hard links where the file system allows it, else as copies.

    Raises: SourceError where `root` is no folder.
    """

    root: Path
    limits: Limits = field(default_factory=Limits)
    _listing: Listing | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise SourceError(f"{self.root}: is no folder; expected the folder of a center's DICOM files")

    def listing(self) -> Listing:
        """Count files and archive members, once; a compressed tar must be read through for that."""
        if self._listing is None:
            self._listing = count("folder", self._offers())
        if not self._listing.instances:
            raise SourceError(f"{self.root}: holds no regular file; expected a center's DICOM files")
        return self._listing

    def fetch(self, into: Path, key: PseudonymKey) -> Iterator[Fetched]:
        """Lay new and changed files into `into`. Raises: SourceError, WorkspaceError, UsageError."""
        here, there = self.root.resolve(), into.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise UsageError(f"center {into.name}: its own folder and the source lie within one another")
        listing = self.listing()
        total = listing.instances + sum(listing.refused.values())
        yield from land(self._offers(), into, key, total)

    def _offers(self) -> Iterator[Offer]:
        top = os.path.realpath(self.root)
        for at, folders, files, descriptor in os.fwalk(top, onerror=_unreadable, follow_symlinks=False):
            folders.sort()
            relative = os.path.relpath(at, top)
            prefix = "" if relative == "." else f"{relative}/"
            if prefix.count("/") >= self.limits.depth:
                yield refuse(prefix, Reason.NESTED_TOO_DEEP, f"folders nest deeper than {self.limits.depth}")
                folders.clear()
                continue
            for name in sorted([*files, *folders]):
                yield from self._offer(name, prefix + name, descriptor, top)

    def _offer(self, name: str, path: str, folder: int, top: str) -> Iterator[Offer]:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return
        if stat.S_ISLNK(found.st_mode):
            yield _refuse_link(path, top)
        elif not stat.S_ISREG(found.st_mode):
            yield refuse(path, Reason.OUTSIDE_TREE, "is a pipe, a socket or a device, no regular file")
        else:
            try:
                yield from self._offer_file(path, _File(name, folder, found))
            except QuarantineError as error:  # while it was opened: nothing has been offered
                yield refuse(path, error.reason, error.detail)

    def _offer_file(self, path: str, file: _File) -> Iterator[Offer]:
        with open(_open(file), "rb") as stream:
            kind = sniff(stream.read(SNIFFED), file.name)
            if kind is not None:
                stream.seek(0)
                yield from offer_members(stream, kind, self.limits, f"{path}!/")
                return
        size = file.found.st_size
        if size > self.limits.file_bytes:
            yield refuse(path, Reason.TOO_LARGE, f"{size} bytes; at most {self.limits.file_bytes} are taken")
            return
        deliver = partial(_link_or_copy, file, self.limits.file_bytes)
        yield Offer(path, f"{size}-{file.found.st_mtime_ns}", size, deliver)


def _refuse_link(path: str, top: str) -> Offer:
    target = os.path.realpath(os.path.join(top, path))  # noqa: PTH118 - bytes of any kind
    if os.path.exists(target) and os.path.commonpath([target, top]) == top:  # noqa: PTH110
        return refuse(path, Reason.DUPLICATE, "is a link to what the tree holds elsewhere")
    return refuse(path, Reason.OUTSIDE_TREE, "is a link that leads out of the tree, or nowhere")


def _open(file: _File) -> int:
    """Open a file that still is the regular file it was. Raises: QuarantineError where it was exchanged."""
    # A pipe put in its place must not block, nor a link be followed.
    try:
        descriptor = os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=file.folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT, errno.ENXIO):
            raise QuarantineError(Reason.OUTSIDE_TREE, "was exchanged while the tree was read") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise QuarantineError(Reason.UNREADABLE, "may not be read; give the right to read it") from None
        raise
    if not os.path.samestat(os.fstat(descriptor), file.found):
        os.close(descriptor)
        raise QuarantineError(Reason.OUTSIDE_TREE, "was exchanged while the tree was read")
    return descriptor


def _link_or_copy(file: _File, limit: int, target: Path) -> None:
    try:
        os.link(file.name, target, src_dir_fd=file.folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        with open(_open(file), "rb") as stream:
            size = write_blocks(read_blocks(stream), target, limit)
        if size != file.found.st_size:
            raise QuarantineError(Reason.TRUNCATED, "changed while it was read; fetch again") from None
        return
    if not os.path.samestat(target.lstat(), file.found):
        target.unlink()
        raise QuarantineError(Reason.OUTSIDE_TREE, "was exchanged while the tree was read")


def _unreadable(error: OSError) -> None:
    raise SourceError(f"a folder of the source cannot be read ({error.strerror}); give the right to read it") from None
