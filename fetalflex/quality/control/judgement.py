"""What the judge sees in N images, beside what was asked; of real images, beside what the experts marked."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fetalflex.quality.bootstrap import Array, Floats

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judgement:
    """seen, asked: bool [N, K, S, S]; wanted: bool [N, K], what was asked as a shape and the judge can know.

    boxed, absent: bool [N, K], what was asked as a box alone, and what to be absent; mm: float64 [N], millimetres per
    pixel, NaN where unknown; clusters: str [N].
    """

    seen: Masks
    asked: Masks
    wanted: Array
    boxed: Array
    absent: Array
    mm: Floats
    clusters: Array

    def __len__(self) -> int:
        return len(self.seen)
