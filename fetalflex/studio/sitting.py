"""A user's sitting: what lies on the desk, undo and redo, and the images made so far. In memory alone."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fetalflex.artifacts import Grey
from fetalflex.diffusion.two_stage import SampleResult
from fetalflex.errors import UsageError
from fetalflex.studio.desk import Desk
from fetalflex.studio.work import Job

MOST_UNDO, MOST_RESULTS, MOST_SITTINGS = 200, 50, 200
IDLE_S = 2 * 3600.0


class EndedError(UsageError):
    """There is no such sitting, or it has ended."""


@dataclass(frozen=True, eq=False)
class Made:
    """An image that was made. `image` uint8: of the model's size, or a counterfactual in its picture's own size."""

    id: str
    number: int
    kind: Literal["generate", "counterfactual"]
    desk: Desk
    seed: int
    image: Grey
    result: SampleResult

    @property
    def before(self) -> Grey | None:
        """The image before the edit."""
        return None if self.kind == "generate" or self.desk.picture is None else self.desk.picture.pixels

    def difference(self) -> Grey | None:
        """Return the change about middle grey, doubled so that it can be seen: uint8."""
        if self.before is None:
            return None
        change = self.image.astype(np.int16) - self.before.astype(np.int16)
        return np.clip(128 + 2 * change, 0, 255).astype(np.uint8)


@dataclass(eq=False)
class Sitting:
    """One user's state; all of it goes when the sitting ends. Use it under its `lock`."""

    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    desk: Desk | None = None
    results: "OrderedDict[str, Made]" = field(default_factory=OrderedDict)
    job: Job | None = None
    seen_at: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)
    _back: list[Desk] = field(default_factory=list)
    _forth: list[Desk] = field(default_factory=list)
    _count: int = 0

    def need(self) -> Desk:
        """Return the desk. Raises: UsageError where it is empty."""
        if self.desk is None:
            raise UsageError("start first: sample a layout, open an image or take a case")
        return self.desk

    def put(self, desk: Desk, *, merge: bool = False) -> None:
        """Lay a new state on the desk; `merge`: it replaces the last one (a slider on its way is one step back)."""
        if self.desk is not None and not merge:
            self._back.append(self.desk)
            del self._back[:-MOST_UNDO]
        self.desk = desk
        self._forth.clear()

    def undo(self) -> None:
        """Go one step back, where there is one."""
        self._step(self._back, self._forth)

    def redo(self) -> None:
        """Take the last step back anew, where there is one."""
        self._step(self._forth, self._back)

    @property
    def steps(self) -> tuple[int, int]:
        """How many steps can be undone, and redone."""
        return len(self._back), len(self._forth)

    def keep(
        self, kind: Literal["generate", "counterfactual"], desk: Desk, seed: int, made: tuple[Grey, SampleResult]
    ) -> Made:
        """Note an image that was made; the oldest go."""
        self._count += 1
        found = Made(secrets.token_urlsafe(12), self._count, kind, desk, seed, *made)
        self.results[found.id] = found
        while len(self.results) > MOST_RESULTS:
            self.results.popitem(last=False)
        return found

    def find(self, result_id: str) -> Made:
        """Return an image of this sitting. Raises: UsageError where it is none."""
        if result_id not in self.results:
            raise UsageError("this image is not, or no longer, part of your sitting")
        return self.results[result_id]

    def _step(self, here: list[Desk], there: list[Desk]) -> None:
        if here and self.desk is not None:
            there.append(self.desk)
            self.desk = here.pop()


class Sittings:
    """All sittings by their id, which only their user knows; those that nobody asks for any more are forgotten."""

    def __init__(self, forget: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`forget`: told of each sitting that ends."""
        self._all: OrderedDict[str, Sitting] = OrderedDict()
        self._forget, self._clock, self._lock = forget, clock, threading.Lock()

    def __len__(self) -> int:
        return len(self._all)

    def open(self, sitting_id: str | None) -> Sitting:
        """Return the sitting of that id, or a new one with an id of our own choice."""
        with self._lock:
            self._sweep()
            found = self._all.get(sitting_id or "")
            if found is None:
                found = Sitting()
                self._all[found.id] = found
            found.seen_at = self._clock()
            self._all.move_to_end(found.id)
            while len(self._all) > MOST_SITTINGS:
                self._end(next(iter(self._all)))
            return found

    def find(self, sitting_id: str | None) -> Sitting:
        """Return a sitting. Raises: EndedError where it is none, or was ended."""
        if sitting_id is None or sitting_id not in self._all:
            raise EndedError("this sitting has ended; load the page again to begin a new one")
        return self.open(sitting_id)

    def end(self, sitting_id: str) -> None:
        """Forget a sitting and all that belongs to it."""
        with self._lock:
            self._end(sitting_id)

    def _sweep(self) -> None:
        now = self._clock()
        for sitting_id in [s.id for s in self._all.values() if now - s.seen_at > IDLE_S]:
            self._end(sitting_id)

    def _end(self, sitting_id: str) -> None:
        if self._all.pop(sitting_id, None) is not None:
            self._forget(sitting_id)
