"""Does an abnormal image show its anomaly, as severe as asked? What the judge sees is measured like a layout.

Scale and age are those of the asked *normal* layout: an abnormal head does not tell its own. An anomaly that shows in a
structure which no normal image has (a cyst, a sac) cannot be measured: the judge has never seen one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.anatomy.anomalies import ANOMALIES, measure_anomaly
from fetalflex.anatomy.editing import Setting
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, mask_box, rasterize
from fetalflex.anatomy.ontology import plane, structure, structure_index
from fetalflex.errors import AnomalyError
from fetalflex.quality.bootstrap import Interval, mean_interval, median_interval
from fetalflex.quality.control.overlap import dice
from fetalflex.rng import generator

Masks = npt.NDArray[np.bool_]
_MINOR_PART = 0.25  # of the largest part's area: what is smaller is the judge's noise


@dataclass(frozen=True)
class Reading:
    """One anomaly measured in one image. `asked` is NaN where the image is normal, `measured` where nothing is found.

    `cluster`: the case that the image's layout comes from. `change`: of a pair, the Dice of the change that the judge
    sees with the asked one; `outside`: the share of what it sees changed that lies out of the region; NaN elsewhere.
    `grey`: mean level at the anomaly's place over that around it; `grey_before`: the same in a pair's normal half.
    """

    anomaly: str
    cluster: str
    asked: float
    measured: float
    change: float = float("nan")
    outside: float = float("nan")
    grey: float = float("nan")
    grey_before: float = float("nan")


@dataclass(frozen=True)
class AnomalyControl:
    """What is known of one anomaly over its n images, with 95 % intervals over source cases; NaN where unknown.

    `known`: the judge knows all structures that it takes. `error`: median of measured - asked, over the n_measured
    images where the judge finds what is to be measured. `found`: share of all n whose measure is beyond the limit that
    defines the anomaly; `found_in_normal`: the same of n_normal normal images that could show it. `judge_error`: median
    of the judge's measure - the experts', on n_real real test images. `grey`, of what is fluid: median of the level
    at the place of the anomaly over that around it, which needs no judge; `grey_before`: the same in the pairs' normal
    halves.
    `points`: asked and measured, image by image.
    """

    anomaly: str
    unit: str
    known: bool
    n: int
    n_measured: int
    error: Interval
    absolute_error: float
    found: Interval
    n_normal: int
    found_in_normal: float
    judge_error: float
    judge_absolute_error: float
    n_real: int
    n_pairs: int
    change: Interval
    outside: float
    grey: float
    grey_before: float
    points: tuple[tuple[float, float | None], ...]


def is_known(name: str, known: Iterable[str]) -> bool:
    """Whether a segmenter that knows these structures can tell how severe the anomaly is."""
    anomaly = ANOMALIES[name]
    return {anomaly.structure, *anomaly.needs} <= set(known)


def seen_layout(seen: Masks, normal: Layout, known: Iterable[str]) -> Layout:
    """Return what a segmenter sees as a layout on the canvas of the asked normal one; known and not seen is absent.

    seen: bool [K, S, S]. Parts with less than a quarter of the largest one's area are left out, holes filled.
    """
    objects, absent = [], set()
    for name in sorted(set(known) & set(plane(normal.plane).structures)):
        mask = _cleaned(seen[structure_index(name)])
        box = mask_box(mask, normal.extent)
        if box is None:
            absent.add(name)
        else:
            objects.append(LayoutObject(name, box, mask))
    return Layout(normal.plane, normal.unit, normal.extent, tuple(objects), absent=frozenset(absent))


def _cleaned(mask: Mask) -> Mask:
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if count == 0:
        return mask
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return np.asarray(ndimage.binary_fill_holes((areas >= _MINOR_PART * areas.max())[parts]))


def measure_seen(name: str, seen: Layout, setting: Setting) -> float:
    """Return how severe an anomaly is in what was seen; NaN where what it is measured by was not found."""
    try:
        return measure_anomaly(seen, name, setting)
    except AnomalyError:
        return float("nan")


def place_of(name: str, normal: Layout, abnormal: Layout, size: int) -> Mask:
    """Return where an anomaly is to be seen, bool [size, size]: its structure, or where that was if it is gone."""
    shown = abnormal if abnormal.find(ANOMALIES[name].structure) is not None else normal
    return np.asarray(rasterize(shown, size).maps[structure_index(ANOMALIES[name].structure)] > 0.5)


def grey_ratio(pixels: npt.NDArray[np.uint8], place: Mask) -> float:
    """Return the mean level inside over that of the ring from 1 to 3 pixels around; NaN where there is no place.

    Fluid is well below 1 in what surrounds it, what is gone near 1.
    """
    ring = ndimage.binary_dilation(place, iterations=3) & ~ndimage.binary_dilation(place)
    if not place.any() or not ring.any():
        return float("nan")
    return float(pixels[place].mean() / max(float(pixels[ring].mean()), 1.0))


def change_seen(before: Masks, after: Masks, asked: Masks, region: Mask) -> tuple[float, float]:
    """Return how well a pair's seen change is the asked one (Dice), and its share outside of the region.

    before, after: bool [K, S, S], what is seen of known structures in both halves; asked: bool [K, S, S], where the two
    asked layouts differ in them. NaN where there is no change.
    """
    seen = before != after
    total = int(seen.sum())
    return dice(seen, asked), float((seen & ~region).sum() / total) if total else float("nan")


def summarise_anomalies(
    readings: Sequence[Reading], real: Sequence[Reading], known: Iterable[str], *, bootstrap: int, seed: int
) -> tuple[AnomalyControl, ...]:
    """Return one row per anomaly that was asked, in the catalogue's order.

    `readings`: of synthetic images, normal ones too (with asked NaN). `real`: of real test images, `asked` being the
    severity in the experts' masks.
    """
    names = [name for name in ANOMALIES if any(r.anomaly == name and np.isfinite(r.asked) for r in readings)]
    known = tuple(known)
    rows = []
    for name in names:
        here = [r for r in readings if r.anomaly == name]
        there = [r for r in real if r.anomaly == name]
        rows.append(_row(name, is_known(name, known), (here, there), bootstrap, seed))
    return tuple(rows)


def _row(
    name: str, known: bool, readings: tuple[list[Reading], list[Reading]], bootstrap: int, seed: int
) -> AnomalyControl:
    asked = [r for r in readings[0] if np.isfinite(r.asked)]
    normal = [r for r in readings[0] if not np.isfinite(r.asked)]
    pairs = [r for r in asked if np.isfinite(r.change)]
    clusters = np.array([r.cluster for r in asked])
    error = np.array([r.measured - r.asked for r in asked])
    reached = np.array([float(ANOMALIES[name].is_reached(r.measured)) if known else np.nan for r in asked])
    judge = np.array([r.measured - r.asked for r in readings[1]] or [np.nan])
    fluid = structure(ANOMALIES[name].structure).is_fluid
    greys = [(r.grey, r.grey_before) for r in asked if fluid] or [(np.nan, np.nan)]
    random = generator(seed, "anomaly", name)
    return AnomalyControl(
        anomaly=name, unit=ANOMALIES[name].unit, known=known, n=len(asked), n_measured=int(np.isfinite(error).sum()),
        error=median_interval(error, clusters, bootstrap, random), absolute_error=_median(np.abs(error)),
        found=mean_interval(reached, clusters, bootstrap, random), n_normal=len(normal),
        found_in_normal=_share([ANOMALIES[name].is_reached(r.measured) for r in normal]) if known else float("nan"),
        judge_error=_median(judge), judge_absolute_error=_median(np.abs(judge)), n_real=int(np.isfinite(judge).sum()),
        n_pairs=len(pairs),
        change=mean_interval(
            np.array([r.change for r in pairs]), np.array([r.cluster for r in pairs]), bootstrap, random
        ),
        outside=_mean([r.outside for r in pairs]),
        grey=_median(np.array(greys)[:, 0]), grey_before=_median(np.array(greys)[:, 1]),
        points=tuple((r.asked, r.measured if np.isfinite(r.measured) else None) for r in asked),
    )  # fmt: skip


def _median(values: npt.NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")


def _share(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")
