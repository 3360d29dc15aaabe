"""Where instances land: keyed names, files that appear whole, and a journal that survives a kill at any moment.

`incoming/.CENTER.fetch/` holds the journal (keyed ids and reasons, no identifiers), the one unfinished file and a
lock. An instance is written and synced there, renamed into the center's folder, then noted: after a kill between the
last two it is fetched once more, under the same name. Files are named by their bytes, so a second delivery whose names
are those of the first adds to it, and one that holds the first adds only what is new.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from fetalflex.artifacts import file_sha256
from fetalflex.deid.keys import PseudonymKey, key_fingerprint, keyed_hash
from fetalflex.errors import QuarantineError, Reason, SourceError, UsageError, WorkspaceError
from fetalflex.sources.base import Fetched, Offer

HEAD = "fetalflex-fetch-1"
Notes = dict[str, tuple[str, ...]]


def land(offers: Iterable[Offer], into: Path, key: PseudonymKey, total: int) -> Iterator[Fetched]:
    """Take every offer that has not arrived yet; one `Fetched` per offer, when it is safe on disk.

    Raises: WorkspaceError where another fetch into this folder is at work; UsageError for another pseudonym key;
        SourceError where reading or writing fails as a whole.
    """
    with _Landing(into, key) as landing:
        for number, offer in enumerate(offers, 1):
            yield landing.take(offer, number, max(total, number))


def read_refusals(into: Path) -> dict[str, tuple[Reason, str]]:
    """Return keyed id -> (reason, detail) of what was refused when it was last offered and has not arrived since."""
    journal = _state(into) / "journal"
    notes = _parse(journal.read_bytes()) if journal.exists() else {}
    return {ident: (Reason(n[1]), n[2]) for ident, n in notes.items() if n[0] == "refused"}


class _Landing:
    def __init__(self, into: Path, key: PseudonymKey) -> None:
        self.into, self.key, self.state = into, key, _state(into)
        self.seen: set[str] = set()  # offers of this fetch
        self.taken: set[str] = set()  # and the files that they are
        self.notes: Notes = {}

    def __enter__(self) -> "_Landing":
        for folder in (self.into, self.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.lock)
            raise WorkspaceError(f"center {self.into.name}: another fetch is at work; wait for it") from error
        try:
            self.journal = self._open_journal()
        except BaseException:
            os.close(self.lock)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.journal.close()
        (self.state / "partial").unlink(missing_ok=True)
        os.close(self.lock)

    def take(self, offer: Offer, number: int, total: int) -> Fetched:
        """Fetch one instance unless it is there. No identifier leaves this method, in an error neither."""
        offered = keyed_hash(self.key, "arrived", offer.name, offer.stamp)
        if offered in self.seen:
            again = keyed_hash(self.key, "arrived again", offer.name, number)
            twice = QuarantineError(Reason.DUPLICATE, "the source offers it twice under one name; the first counts")
            return self._refuse(again, twice, number, total)
        self.seen.add(offered)
        named = keyed_hash(self.key, "refused", offer.name)
        if offer.refused is not None:
            return self._refuse(named, offer.refused, number, total)
        try:
            ident, size, is_new = self._arrived(offered) or self._bring(offer, offered)
        except QuarantineError as error:
            return self._refuse(named, error, number, total)
        except OSError as error:
            # Without its cause: the cause's text names paths of the source, and they may carry names.
            raise SourceError(
                f"center {self.into.name}: instance {offered} could not be laid down ({error.strerror or 'read error'})"
                f"; see that there is space and that the source can be read, and run again: it goes on from here"
            ) from None
        if ident in self.taken:
            same = QuarantineError(Reason.DUPLICATE, "the same bytes as another file of the source")
            return self._refuse(named, same, number, total)
        if self.notes.get(named, ("",))[0] == "refused":
            self._note(named, ("settled", "", ""))
        self.taken.add(ident)
        return Fetched(ident, "new" if is_new else "known", size, number, total)

    def _arrived(self, offered: str) -> tuple[str, int, bool] | None:
        """Return what arrived before; a file that has gone or has another size counts as not arrived."""
        note = self.notes.get(offered)
        if note is None or note[0] != "arrived" or self._size(note[2]) != int(note[1]):
            return None
        return note[2], int(note[1]), False

    def _bring(self, offer: Offer, offered: str) -> tuple[str, int, bool]:
        """Let an offer be delivered and put into place, unless its bytes are there; return id, size, whether new."""
        partial = self.state / "partial"
        partial.unlink(missing_ok=True)
        try:
            offer.deliver(partial)
            size = partial.lstat().st_size
            ident = keyed_hash(self.key, "arrived", file_sha256(partial)) if offer.by_content else offered
            is_new = not offer.by_content or self._size(ident) != size
            if is_new:
                target = self._target(ident)
                target.parent.mkdir(mode=0o700, exist_ok=True)
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        self._note(offered, ("arrived", str(size), ident))
        return ident, size, is_new

    def _target(self, ident: str) -> Path:
        return self.into / ident[:2] / f"{ident}.dcm"

    def _size(self, ident: str) -> int | None:
        try:
            return self._target(ident).lstat().st_size
        except FileNotFoundError:
            return None

    def _refuse(self, ident: str, error: QuarantineError, number: int, total: int) -> Fetched:
        entry = ("refused", error.reason.value, " ".join(error.detail.split()))
        if self.notes.get(ident) != entry:
            self._note(ident, entry)
        return Fetched(ident, "refused", 0, number, total, error.reason, error.detail)

    def _note(self, ident: str, note: tuple[str, str, str]) -> None:
        self.notes[ident] = note
        self.journal.write((" ".join((ident, *note)) + "\n").encode())
        self.journal.flush()
        os.fsync(self.journal.fileno())

    def _open_journal(self) -> BinaryIO:
        path, mine = self.state / "journal", f"{HEAD} {key_fingerprint(self.key)}\n".encode()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        journal = open(descriptor, "a+b")  # noqa: PTH123, SIM115 - a descriptor that outlives this method
        journal.seek(0)
        text = journal.read()
        if b"\n" not in text:  # new, or killed in its first line
            journal.truncate(0)
            journal.write(mine)
            journal.flush()
        elif not text.startswith(mine):
            journal.close()
            raise UsageError(
                f"center {self.into.name}: it was fetched under another pseudonym key, and would arrive a second time "
                f"under other names; use the key of then, or remove incoming/{self.into.name} and {path.parent.name}"
            )
        else:
            journal.truncate(text.rindex(b"\n") + 1)  # a kill may leave half a line
        self.notes = _parse(text)
        return journal


def _state(into: Path) -> Path:
    return into.parent / f".{into.name}.fetch"


def _parse(text: bytes) -> Notes:
    """Return the last whole note of every id."""
    lines = text.decode("utf-8", "replace").split("\n")[1:-1]
    return {ident: tuple(note) for ident, *note in (line.split(" ", 3) for line in lines)}
