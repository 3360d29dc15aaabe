"""A small study, and readers who answer it by a rule, that the tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex.reader_study.draw import Candidate, Design
from fetalflex.reader_study.store import Answer, Store
from fetalflex.reader_study.study import new_study

SIDE = 32
DESIGN = Design(images=16, repeats=4, readers=2, seed=5)


def candidates(per_cell: int = 8) -> list[Candidate]:
    """Real images: speckle with black padding; synthetic ones: smooth, with padding that is nearly black."""
    random, found = np.random.default_rng(1), []
    for plane in ("transventricular", "abdomen"):
        for center in ("north", "south"):
            for number in range(per_cell):
                real = random.integers(20, 255, (SIDE, SIDE)).astype(np.uint8)
                real[:6] = 0
                smooth = np.full((SIDE, SIDE), 90 + number, np.uint8)
                smooth[:6] = random.integers(0, 4, (6, SIDE))
                found.append(Candidate("real", plane, center, f"real-{plane}-{center}-{number}", real))
                found.append(Candidate("synthetic", plane, center, f"made-{plane}-{center}-{number}", smooth))
    return found


def make(folder: Path, design: Design = DESIGN) -> tuple[Store, dict[str, str]]:
    tokens = new_study(folder, candidates(), design, "A study")
    return Store(folder), tokens


def truths(store: Store) -> dict[int, str]:
    with store._base() as base:
        return dict(base.execute("SELECT number, truth FROM truths"))


def read_all(store: Store, token: str, judge: Callable[[int, str], Answer], stop: int | None = None) -> None:
    """Let a reader answer, from where they stand, by a rule on (image number, truth)."""
    known, now = truths(store), 0.0
    store.consent(token, "Sonographer", 5, "2026-11-27T00:00:00+00:00")
    place = store.place(token)
    while place.position is not None and (stop is None or place.position <= stop):
        store.image(token, place.position, now)
        with store._base() as base:
            sql = "SELECT image FROM showings WHERE reader = ? AND position = ?"
            (image,) = base.execute(sql, (place.reader, place.position)).fetchone()
        now += 4
        place = store.answer(token, place.position, judge(image, known[image]), now)


def answer(verdict: Any = "real", realism: int = 4, **more: Any) -> Answer:
    return Answer(verdict, realism, more.pop("plane_correct", "yes"), **more)
