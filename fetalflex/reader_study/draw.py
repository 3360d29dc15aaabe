"""Drawing a study: which images, in what order for each reader. A pure function of the candidates, design and seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fetalflex import rng
from fetalflex.errors import TooFewCasesError, UsageError

Truth = Literal["real", "synthetic"]
Pixels = npt.NDArray[np.uint8]
APART = 8  # a repeat stands at least so many images after its first showing, where the study is long enough
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class Candidate:
    """An image that could be shown: uint8 [S, S], what it is, and its keyed id."""

    truth: Truth
    plane: str
    center: str
    origin: str
    pixels: Pixels


@dataclass(frozen=True)
class Design:
    """How large a study is. `images`: different ones, half of them real; `repeats`: of them shown twice."""

    images: int
    repeats: int
    readers: int
    seed: int = 0


def draw_images(candidates: Sequence[Candidate], design: Design) -> list[Candidate]:
    """Return the images, as many real as synthetic in every plane and center, in an order that tells nothing.

    Cells (plane, center) get equal shares as far as their images go.
    Raises: UsageError for an impossible design, TooFewCasesError where there are too few of both kinds.
    """
    if design.images < _FEWEST or design.images % 2 or not 0 <= design.repeats <= design.images or design.readers < 1:
        raise UsageError(
            f"a study has an even number of images, at least {_FEWEST}, at most as many repeats, and a reader; found "
            f"{design.images} images, {design.repeats} repeats, {design.readers} readers"
        )
    cells = _cells(candidates, design.seed)
    shares = _shares({cell: min(len(real), len(made)) for cell, (real, made) in cells.items()}, design.images // 2)
    if sum(shares.values()) < design.images // 2:
        raise TooFewCasesError(
            f"{sum(shares.values())} pairs of a real and a synthetic image of the same plane and center; expected "
            f"{design.images // 2}: ask for fewer images, or sample more"
        )
    chosen = [c for cell, share in shares.items() for kind in cells[cell] for c in kind[:share]]
    order = rng.generator(design.seed, "reader study", "images").permutation(len(chosen))
    return [chosen[i] for i in order]


def draw_order(count: int, design: Design, reader: str) -> list[tuple[int, bool]]:
    """Return (image number, whether it is shown again) in the order of one reader: random, repeats well apart."""
    random = rng.generator(design.seed, "reader study", "order", reader)
    order = [(int(i), False) for i in random.permutation(count)]
    again = [int(i) for i in random.permutation(count)[: design.repeats]]
    apart = min(APART, count // 2)
    for image in again:
        first = next(k for k, (i, _) in enumerate(order) if i == image)
        places = range(first + 1 + apart, len(order) + 1)
        order.insert(int(random.choice(places)) if len(places) else len(order), (image, True))
    return order


def _cells(
    candidates: Sequence[Candidate], seed: int
) -> dict[tuple[str, str], tuple[list[Candidate], list[Candidate]]]:
    """Return the candidates of each plane and center, real and synthetic, each shuffled."""
    cells: dict[tuple[str, str], tuple[list[Candidate], list[Candidate]]] = {}
    for one in sorted(candidates, key=lambda c: (c.plane, c.center, c.truth, c.origin)):
        cells.setdefault((one.plane, one.center), ([], []))[one.truth == "synthetic"].append(one)
    for (plane, center), kinds in cells.items():
        for number, kind in enumerate(kinds):
            order = rng.generator(seed, "reader study", plane, center, number).permutation(len(kind))
            kind[:] = [kind[i] for i in order]
    return cells


def _shares(room: dict[tuple[str, str], int], total: int) -> dict[tuple[str, str], int]:
    """Share out a total one by one among cells that have room; those that are full leave theirs to others."""
    shares = dict.fromkeys(sorted(room), 0)
    while sum(shares.values()) < total and (open_ := [c for c in shares if shares[c] < room[c]]):
        for cell in sorted(open_, key=lambda c: (shares[c], c))[: total - sum(shares.values())]:
            shares[cell] += 1
    return shares
