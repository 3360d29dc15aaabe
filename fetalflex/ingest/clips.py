"""Which frames of a clip become stills, by the profile's rule; the same clip gives the same numbers.

`even` needs no pixels. `distinct` needs one pass over (at most 64) frames, of which only a tiny copy is kept, so a
clip of any length is chosen from in the same memory.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from fetalflex.params import Clips

Grey = npt.NDArray[np.uint8]
CANDIDATES = 64  # frames that `distinct` looks at, evenly spaced: about two heart beats of a fetus at 60 per second
TINY = 24  # pixels of the side that frames are compared at
FROZEN = 1.5  # mean grey levels: frames that differ less are one picture (a frozen clip, compression's noise)


def even_numbers(total: int, count: int) -> list[int]:
    """Return at most `count` of `total` frame numbers, evenly spaced from the first.

    >>> even_numbers(30, 2)
    [0, 15]
    """
    taken = max(1, min(count, total))
    return [i * total // taken for i in range(taken)]


def candidate_numbers(total: int, clips: Clips) -> list[int]:
    """Return the frames that must be decoded to choose the stills: those themselves, or what `distinct` looks at."""
    if clips.rule == "even" or total <= clips.frames:
        return even_numbers(total, clips.frames)
    return even_numbers(total, max(CANDIDATES, clips.frames))


def tiny(grey: Grey) -> Grey:
    """Return what is kept of a frame [H, W] to choose by: uint8 [24, 24], area-averaged."""
    return np.asarray(Image.fromarray(grey).resize((TINY, TINY), Image.Resampling.BOX))


def choose_stills(numbers: list[int], tinies: Iterable[Grey], clips: Clips) -> list[int]:
    """Return the numbers of the stills, ascending: all candidates for `even`, the most different for `distinct`.

    `tinies`: `tiny` of each candidate, in the order of `numbers`. Starts from the most typical frame, then takes again
    and again the one farthest from all that were taken; of equals the earliest. A frozen clip gives one still.
    Source: farthest-point sampling, Gonzalez 1985 (Theoretical Computer Science 38).
    """
    if clips.rule == "even" or len(numbers) < 2:
        return list(numbers)
    pictures = np.stack([t.astype(np.int16).ravel() for t in tinies])  # [candidates, 576]
    apart = np.stack([np.abs(pictures - picture).mean(axis=1) for picture in pictures])
    taken = [int(apart.sum(axis=1).argmin())]
    nearest = apart[taken[0]]
    while len(taken) < clips.frames:
        farthest = int(nearest.argmax())
        if nearest[farthest] < FROZEN:
            break
        taken.append(farthest)
        nearest = np.minimum(nearest, apart[farthest])
    return sorted(numbers[i] for i in taken)
