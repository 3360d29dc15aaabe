"""Mechanical checks of single images. Each is a number that rises with the fault; its limit is what real images keep.

No check knows what a fault looks like: a synthetic image is set aside where its number lies beyond those of real
training images of its center (nearly all of them, and a margin). Real held-out images tell how often that errs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.quality.bootstrap import Array, Floats
from fetalflex.quality.plausibility import pictures as look
from fetalflex.quality.plausibility.pictures import VISIBLE

Images = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.uint8]
QUANTILE, MARGIN = 0.99, 0.5  # the limit: that quantile, and half its distance from the median on top
RARELY, MOSTLY = 0.005, 0.98  # share of a center's images that are lit at a pixel: nearly never, nearly always
LEAST = 20  # real images of a center below which those of all centers set the limits
SECTOR, GAP, WHITE = "sector", "gap", "saturation"
# What an eye does not see: where all images of a device are exactly alike, the limits learnt there would be 0. So would
# that of white pixels where shrinking to the canvas has averaged them away: single ones in a skull are no fault.
LEAST_LIMIT = {SECTOR: 0.25, GAP: 0.02, WHITE: 0.002}
REASONS: dict[str, str] = {
    "text": "fine strokes in a row, as of burned-in text",
    "grid": "power at the frequencies of a grid in the spectrum",
    WHITE: "white pixels in the sector",
    SECTOR: "light where the center's images are always black",
    GAP: "black where the center's images always show tissue",
    "shadow": "no shadow behind the bone",
    "layout": "a size out of range for the age",
}
_PICTURE_CHECKS: dict[str, Callable[[Picture], float]] = {
    "text": look.written,
    "grid": look.grid_power,
    WHITE: look.saturation,
}


@dataclass(frozen=True, eq=False)
class Pictures:
    """N images uint8 [N, S, S] with centers str [N], and, bool [N, S, S] (else empty), where bone is asked or known.

    `fluid`: the same for fluid that was asked for, which is black by right; None where none was.
    """

    images: Images
    centers: Array
    bones: Array
    fluid: Array | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Limits:
    """What real images keep: center -> check -> limit, `""` for all centers; center -> how often a pixel has light."""

    by_center: Mapping[str, Mapping[str, float]]
    lit: Mapping[str, Floats]

    def of(self, center: str, check: str) -> float:
        """Return the limit of a check, of all centers where a center has none of its own; infinite without any."""
        own = self.by_center.get(center, {})
        return own.get(check, self.by_center[""].get(check, float("inf")))


def learn_limits(real: Pictures) -> Limits:
    """Return the limits that real training images set."""
    lit = {c: _lit(real.images[real.centers == c]) for c in _names(real.centers)}
    values = measure(real, lit)
    places = {"": np.ones(len(real), bool)} | {c: real.centers == c for c in _names(real.centers)}
    return Limits({c: _limits(values, here) for c, here in places.items() if not c or here.sum() >= LEAST}, lit)


def measure(pictures: Pictures, lit: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return each check's number for each image: float64 [N], NaN where it does not apply."""
    images = pictures.images
    found = {name: np.array([check(image) for image in images], np.float64) for name, check in _PICTURE_CHECKS.items()}
    rates = [lit.get(str(c)) for c in pictures.centers]
    fluid = np.zeros(images.shape, bool) if pictures.fluid is None else pictures.fluid
    parts = list(zip(images, rates, fluid, strict=True))
    found[SECTOR] = np.array([np.nan if r is None else look.lit_outside(i, r > RARELY) for i, r, _ in parts])
    found[GAP] = np.array([np.nan if r is None else look.dark_inside(i, (r > MOSTLY) & ~f) for i, r, f in parts])
    found["shadow"] = np.array([look.shadow_depth(i, b) for i, b in zip(images, pictures.bones, strict=True)])
    return found


def failures(pictures: Pictures, limits: Limits) -> list[dict[str, str]]:
    """Return for each image its failed checks, each with a reason in words."""
    values = measure(pictures, limits.lit)
    found: list[dict[str, str]] = []
    for i in range(len(pictures)):
        center = str(pictures.centers[i])
        beyond = {n: (v[i], limits.of(center, n)) for n, v in values.items() if v[i] > limits.of(center, n)}
        found.append({n: f"{REASONS[n]}: {v:.3g}, real images keep {limit:.3g}" for n, (v, limit) in beyond.items()})
    return found


def _lit(images: Images) -> Floats:
    """Return how often a pixel, or one beside it, has light: [S, S]. An edge between two pixels is no other sector."""
    found: Floats = ndimage.maximum_filter((images > VISIBLE).mean(0), 3)
    return found


def _limits(values: Mapping[str, Floats], here: Array) -> dict[str, float]:
    found = {}
    for name, column in values.items():
        known = column[here][np.isfinite(column[here])]
        if len(known) >= LEAST:
            high, middle = np.quantile(known, [QUANTILE, 0.5])
            found[name] = max(float(high + MARGIN * (high - middle)), LEAST_LIMIT.get(name, 0.0))
    return found


def _names(centers: Array) -> list[str]:
    return sorted({str(c) for c in centers})
