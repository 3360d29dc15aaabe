"""A study on disk: one SQLite file. Every answer is there before the next image is shown.

What an image is (`truth`) stands in a table that the readers' pages never ask.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fetalflex.errors import ArtifactError, UsageError
from fetalflex.reader_study.draw import Candidate, Design

FILE = "study.sqlite"
_SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE images (number INTEGER PRIMARY KEY, png BLOB NOT NULL, plane TEXT NOT NULL);
CREATE TABLE truths (number INTEGER PRIMARY KEY REFERENCES images, truth TEXT NOT NULL, center TEXT NOT NULL,
  origin TEXT NOT NULL);
CREATE TABLE readers (name TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL UNIQUE, consented_at TEXT, role TEXT,
  years REAL);
CREATE TABLE showings (reader TEXT NOT NULL REFERENCES readers, position INTEGER NOT NULL,
  image INTEGER NOT NULL REFERENCES images, again INTEGER NOT NULL, shown_at REAL, PRIMARY KEY (reader, position));
CREATE TABLE answers (reader TEXT NOT NULL, position INTEGER NOT NULL, verdict TEXT NOT NULL
  CHECK (verdict IN ('real', 'synthetic')), realism INTEGER NOT NULL CHECK (realism BETWEEN 1 AND 5),
  plane_correct TEXT NOT NULL CHECK (plane_correct IN ('yes', 'no', 'unsure')), structures TEXT NOT NULL,
  comment TEXT NOT NULL, seconds REAL, PRIMARY KEY (reader, position),
  FOREIGN KEY (reader, position) REFERENCES showings);
"""


@dataclass(frozen=True)
class Answer:
    """What a reader says of one image. `realism`: 1 (not at all) to 5 (fully real)."""

    verdict: Literal["real", "synthetic"]
    realism: int
    plane_correct: Literal["yes", "no", "unsure"]
    structures: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True)
class Place:
    """Where a reader stands: the position of the next image from 1 on, None at the end; `plane` it is said to show."""

    reader: str
    position: int | None
    total: int
    plane: str | None
    consented: bool


class TurnedError(UsageError):
    """An answer to an image that is not, or no longer, the reader's next one."""


class UnknownReaderError(UsageError):
    """A link that belongs to no reader."""


class Store:
    """A study's file."""

    def __init__(self, folder: Path) -> None:
        """Open a study. Raises: ArtifactError where there is none."""
        self.path = folder / FILE
        if not self.path.is_file():
            raise ArtifactError(f"{folder}: no reader study here; make one with 'fetalflex reader-study new'")

    @staticmethod
    def create(  # noqa: D102
        folder: Path, about: dict[str, Any], design: Design, images: Sequence[tuple[Candidate, bytes]]
    ) -> "Store":
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there already and not empty: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{FILE}.partial"
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as base, base:
            base.executescript(_SCHEMA)
            values = about | {"design": asdict(design)}
            base.executemany("INSERT INTO study VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()])
            for number, (one, png) in enumerate(images):
                base.execute("INSERT INTO images VALUES (?, ?, ?)", (number, png, one.plane))
                base.execute("INSERT INTO truths VALUES (?, ?, ?, ?)", (number, one.truth, one.center, one.origin))
        partial.chmod(0o600)
        partial.rename(folder / FILE)
        return Store(folder)

    def add_reader(self, name: str, token: str, order: Sequence[tuple[int, bool]]) -> None:
        """Add a reader under a pseudonym; of the link's token only a hash is kept."""
        with self._base() as base:
            base.execute("INSERT INTO readers (name, token_sha256) VALUES (?, ?)", (name, _hashed(token)))
            rows = [(name, position, image, again) for position, (image, again) in enumerate(order, 1)]
            base.executemany("INSERT INTO showings (reader, position, image, again) VALUES (?, ?, ?, ?)", rows)

    def about(self) -> dict[str, Any]:
        """Return title, consent text and design."""
        with self._base() as base:
            return {k: json.loads(v) for k, v in base.execute("SELECT key, value FROM study")}

    def place(self, token: str) -> Place:
        """Return where the reader of a link stands. Raises: UnknownReaderError."""
        with self._base() as base:
            name, consented = self._reader(base, token)
            (total,) = base.execute("SELECT count(*) FROM showings WHERE reader = ?", (name,)).fetchone()
            (done,) = base.execute("SELECT count(*) FROM answers WHERE reader = ?", (name,)).fetchone()
            if done == total:
                return Place(name, None, total, None, consented)
            (plane,) = base.execute(
                "SELECT plane FROM showings JOIN images ON number = image WHERE reader = ? AND position = ?",
                (name, done + 1),
            ).fetchone()
            return Place(name, done + 1, total, plane, consented)

    def consent(self, token: str, role: str, years: float | None, at: str) -> None:
        """Note a reader's consent, once."""
        with self._base() as base:
            name, _ = self._reader(base, token)
            base.execute(
                "UPDATE readers SET consented_at = ?, role = ?, years = ? WHERE name = ? AND consented_at IS NULL",
                (at, role, years, name),
            )

    def image(self, token: str, position: int, now: float) -> bytes:
        """Return the PNG of a reader's next image, and note when it was first shown.

        Raises: TurnedError for any other position: there is no looking ahead and no going back.
        """
        place = self._next(token, position)
        with self._base() as base:
            (png,) = base.execute(
                "SELECT png FROM showings JOIN images ON number = image WHERE reader = ? AND position = ?",
                (place.reader, position),
            ).fetchone()
            base.execute(
                "UPDATE showings SET shown_at = coalesce(shown_at, ?) WHERE reader = ? AND position = ?",
                (now, place.reader, position),
            )
        return bytes(png)

    def answer(self, token: str, position: int, answer: Answer, now: float) -> Place:
        """Save an answer for good; return where the reader stands then. Raises: TurnedError as `image`."""
        place = self._next(token, position)
        with self._base() as base:
            (shown,) = base.execute(
                "SELECT shown_at FROM showings WHERE reader = ? AND position = ?", (place.reader, position)
            ).fetchone()
            seconds = None if shown is None else round(now - shown, 2)
            try:
                base.execute(
                    "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (place.reader, position, answer.verdict, answer.realism, answer.plane_correct,
                     json.dumps(sorted(answer.structures)), answer.comment, seconds),
                )  # fmt: skip
            except sqlite3.IntegrityError as error:  # the same image, answered in another tab at this moment
                raise TurnedError(f"image {position} is answered already") from error
        return self.place(token)

    def rows(self) -> list[dict[str, Any]]:
        """Return every answer with what the image was, for the results: sorted by reader and position."""
        with self._base() as base:
            base.row_factory = sqlite3.Row
            found = base.execute(
                "SELECT a.reader, a.position, s.image, s.again, t.truth, i.plane, t.center, t.origin, a.verdict, "
                "a.realism, a.plane_correct, a.structures, a.comment, a.seconds, r.role, r.years "
                "FROM answers a JOIN showings s USING (reader, position) JOIN images i ON i.number = s.image "
                "JOIN truths t ON t.number = s.image JOIN readers r ON r.name = a.reader ORDER BY a.reader, a.position"
            ).fetchall()
        return [dict(row) | {"again": bool(row["again"])} for row in found]

    def readers(self) -> list[tuple[str, int, int]]:
        """Return (pseudonym, answers, images) of every reader."""
        with self._base() as base:
            return [
                (name, done, total)
                for name, done, total in base.execute(
                    "SELECT name, (SELECT count(*) FROM answers WHERE reader = name), "
                    "(SELECT count(*) FROM showings WHERE reader = name) FROM readers ORDER BY name"
                )
            ]

    def _next(self, token: str, position: int) -> Place:
        place = self.place(token)
        if not place.consented:
            raise TurnedError("the consent comes first")
        if place.position != position:
            raise TurnedError(f"image {position} is not your next one; answers stay as they are")
        return place

    @staticmethod
    def _reader(base: sqlite3.Connection, token: str) -> tuple[str, bool]:
        found = base.execute(
            "SELECT name, consented_at FROM readers WHERE token_sha256 = ?", (_hashed(token),)
        ).fetchone()
        if found is None:
            raise UnknownReaderError("this link belongs to no reader of the study; ask who sent it for a new one")
        return found[0], found[1] is not None

    @contextmanager
    def _base(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose changes are on the disk, all or none, when the block ends."""
        with closing(sqlite3.connect(self.path, timeout=30)) as base, base:
            base.execute("PRAGMA foreign_keys = ON")
            base.execute("PRAGMA synchronous = FULL")
            yield base


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
