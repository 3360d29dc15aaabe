"""Whether images made again are those of the release: byte for byte, or within a stated tolerance elsewhere."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fetalflex.artifacts import Grey

# On another kind of device the last bits differ, and a fine stage that stops a round earlier or later magnifies that.
# A bound that we set. Between instruction sets of one processor no pixel differed on 14 tiny images (docs/results.md,
# "Releases"); between processor and GPU it was not measured.
MEAN_GREY_LEVELS = 2.0
WITHIN_SHARE = 0.95  # of the images: the rest may have taken another number of rounds


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the release says: which part of the chain, its name, what was found and expected."""

    part: str
    name: str
    found: str
    expected: str

    def as_dict(self) -> dict[str, str]:
        """Return the difference for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Remade:
    """An image made again: whether its pixels are equal, and the mean and largest difference in grey levels."""

    image_id: str
    identical: bool
    mean_grey_levels: float
    largest_grey_levels: int

    @property
    def within(self) -> bool:
        """Whether it is within the tolerance that holds on another kind of device."""
        return self.mean_grey_levels <= MEAN_GREY_LEVELS


def compare(image_id: str, released: Grey, again: Grey) -> Remade:
    """Compare two images uint8 [S, S]."""
    if released.shape != again.shape:
        return Remade(image_id, False, 255.0, 255)
    distance = np.abs(released.astype(np.int16) - again)
    return Remade(image_id, not distance.any(), float(distance.mean()), int(distance.max(initial=0)))


def differing(remade: list[Remade], *, same_kind: bool) -> list[Difference]:
    """Return the images that fail: on the same kind of device every one that differs, else those out of tolerance.

    On another kind, single images may be out of it as long as `WITHIN_SHARE` of them are within.
    """
    failed = [r for r in remade if not (r.identical if same_kind else r.within)]
    if not same_kind and len(remade) - len(failed) >= WITHIN_SHARE * len(remade):
        return []
    expected = "equal bytes" if same_kind else f"a mean difference of at most {MEAN_GREY_LEVELS:g} grey levels"
    return [
        Difference(
            "image", r.image_id, f"made again it differs by {r.mean_grey_levels:.3g} (mean), {r.largest_grey_levels}"
            " (largest) grey levels", expected,
        )
        for r in failed
    ]  # fmt: skip


def summary(remade: list[Remade]) -> dict[str, Any]:
    """Return counts and the distribution of differences, for JSON."""
    means = np.array([r.mean_grey_levels for r in remade] or [0.0])
    return {
        "checked": len(remade),
        "identical": sum(r.identical for r in remade),
        "mean_grey_levels": {"median": float(np.median(means)), "largest": float(means.max())},
    }
