"""The figures of a release: every measure with its interval, its sample and its real-versus-real floor.

The floor is the same measure between real images of different patients at the same numbers: no generator can be asked
to do better. Of measures of variety (`ms_ssim`, `feature_diversity`, `lpips_diversity`) it is what real images have.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Array
from fetalflex.quality.features.encoder import Encoder
from fetalflex.quality.fidelity.measures import MS_SSIM, REPEATED, Measure, of_encoder, of_looks, of_lpips
from fetalflex.quality.fidelity.sides import Side
from fetalflex.rng import generator

SMALL_IMAGES, SMALL_PATIENTS = 100, 30
LEAST = 12  # images a side below which a plane, a center or an anomaly is not measured on its own
LARGE = 2000  # images from which on one draw of other patients is enough for a floor
BY_GROUP = ("kid", "precision", "coverage")


@dataclass(frozen=True)
class Figure:
    """One measured figure. `n`: the smaller of n_real and n_synthetic; `floor`: None where it cannot be measured.

    `plane`, `center`, `anomaly`: what it was measured on alone, None on all. `warning`: why it is to be read with care.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    n_real: int
    n_synthetic: int
    floor: float | None
    floor_n: int | None
    encoder: str | None = None
    plane: str | None = None
    center: str | None = None
    anomaly: str | None = None
    warning: str = ""


@dataclass(frozen=True)
class Plan:
    """How figures are made. `encoders`: the first gives the headline figures, others get their name behind a dot.

    `lpips`: a `fidelity.lpips.LpipsEncoder`; None: LPIPS is not measured.
    """

    encoders: tuple[str, ...]
    bootstrap: int
    seed: int
    lpips: Encoder | None = None


def measure_all(real: Side, synthetic: Side, other: Side | None, plan: Plan) -> Iterator[Figure]:
    """Yield the figures over all images, then by plane and by center.

    real: test patients; other: real images of other patients (train), for the floors, or None.
    Raises: TooFewCasesError for fewer than two images on a side.
    """
    for name, side in (("real", real), ("synthetic", synthetic)):
        if len(side) < 2:
            raise TooFewCasesError(f"fidelity: {len(side)} {name} images; expected at least 2")
    other = None if other is None else other.apart_from(real)
    measures = list(of_encoder(plan.encoders[0]))
    for encoder in plan.encoders[1:]:
        measures += of_encoder(encoder, f".{encoder}")
    measures += [MS_SSIM, REPEATED] if plan.lpips is None else [MS_SSIM, REPEATED, of_lpips(plan.lpips)]
    for measure in (*measures, *of_looks()):
        yield figure(measure, (real, synthetic, other), plan)
    yield from _by_group(real, synthetic, other, plan)


def figure(measure: Measure, sides: tuple[Side, Side, Side | None], plan: Plan, **where: str) -> Figure:
    """Return one figure; `where`: plane, center or anomaly that the sides are cut to."""
    names = (measure.name, *(f"{k}={v}" for k, v in sorted(where.items())))
    real, synthetic, other = sides
    if measure.most is not None:
        real = real.subset(measure.most, plan.seed, "real")
        synthetic = synthetic.subset(measure.most, plan.seed, "synthetic")
    if min(len(real), len(synthetic)) < measure.least:
        return _unmeasured(measure, real, synthetic, **where)
    found = measure.of(real, synthetic, plan.bootstrap, generator(plan.seed, *names))
    floor, floor_n = _floor(measure, real, other, len(synthetic), plan.seed)
    return Figure(
        measure.name, found.value, found.low, found.high, min(len(real), len(synthetic)), len(real), len(synthetic),
        floor, floor_n, measure.encoder, warning=_warning(measure, real, synthetic, floor_n), **where,
    )  # fmt: skip


def by_anomaly(real: Side, synthetic: Side, anomalies: Array, other: Side | None, plan: Plan) -> Iterator[Figure]:
    """Yield the distance of each anomaly's images to real, normal images of their planes, so of the style alone.

    anomalies: str [N], the first anomaly of each synthetic image, empty where it has none.
    """
    kid = of_encoder(plan.encoders[0])[0]
    for name in sorted({str(a) for a in anomalies} - {""}):
        here = synthetic.take(anomalies == name)
        real_here = real.take(np.isin(real.planes, here.planes))
        others = None if other is None else other.take(np.isin(other.planes, here.planes))
        yield _grouped(kid, (real_here, here, others), plan, anomaly=name)


def _by_group(real: Side, synthetic: Side, other: Side | None, plan: Plan) -> Iterator[Figure]:
    chosen = [m for m in of_encoder(plan.encoders[0]) if m.name in BY_GROUP]
    for key, column in (("plane", "planes"), ("center", "centers")):
        names = sorted({str(v) for v in getattr(synthetic, column)})
        for name in names if len(names) > 1 or key == "center" else ():
            real_here, here = (side.take(getattr(side, column) == name) for side in (real, synthetic))
            others = None if other is None else other.take(getattr(other, column) == name)
            for measure in (*chosen, *(of_looks() if key == "center" else ())):
                yield _grouped(measure, (real_here, here, others), plan, **{key: name})


def _grouped(measure: Measure, sides: tuple[Side, Side, Side | None], plan: Plan, **where: str) -> Figure:
    least = max(LEAST, measure.least)
    if min(len(sides[0]), len(sides[1])) < least:
        return _unmeasured(measure, sides[0], sides[1], **where)
    return figure(measure, sides, plan, **where)


def _unmeasured(measure: Measure, real: Side, synthetic: Side, **where: str) -> Figure:
    nothing = float("nan")
    told = f"not measured: {len(real)} real and {len(synthetic)} synthetic images are too few"
    return Figure(
        measure.name, nothing, nothing, nothing, min(len(real), len(synthetic)), len(real), len(synthetic), None, None,
        measure.encoder, warning=told, **where,
    )  # fmt: skip


def _floor(measure: Measure, real: Side, other: Side | None, count: int, seed: int) -> tuple[float | None, int | None]:
    """Return the mean figure of `real` against random draws of `count` images of other patients, and their number."""
    if other is None or len(other) < max(2, measure.least):
        return None, None
    n = min(count, len(other))
    draws = 1 if n == len(other) or n > LARGE else measure.floor_draws
    values = [
        measure.of(real, other.subset(n, seed, "floor", i), 0, generator(seed, "floor", i, "pairs")).value
        for i in range(draws)
    ]
    value = float(np.mean(values))
    return (value, n) if np.isfinite(value) else (None, None)


def _warning(measure: Measure, real: Side, synthetic: Side, floor_n: int | None) -> str:
    parts = []
    n, patients = min(len(real), len(synthetic)), len(np.unique(real.clusters))
    if n < SMALL_IMAGES or patients < SMALL_PATIENTS:
        parts.append(f"small sample: {len(real)} real images of {patients} patients, {len(synthetic)} synthetic")
    if measure.name.startswith("frechet") and measure.encoder and n <= real.features[measure.encoder].shape[1]:
        told = "not wholly corrected" if "corrected" in measure.name else "biased upwards, compare at the same numbers"
        parts.append(f"fewer images than features: {told}")
    if floor_n is None:
        parts.append("no floor: no real images of other patients")
    elif floor_n < len(synthetic):
        parts.append(f"floor measured at {floor_n} images")
    return "; ".join(parts)
