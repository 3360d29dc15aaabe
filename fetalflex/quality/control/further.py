"""The figures of control beside Dice, each with the judge's own on real images as its floor."""

from collections.abc import Iterator

import numpy as np

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.quality.bootstrap import Floats, Interval, mean_interval, median_interval
from fetalflex.quality.control.boundary import boundary_distances
from fetalflex.quality.control.judgement import Judgement
from fetalflex.quality.control.presence import intruding, missing
from fetalflex.quality.control.sizes import size_errors
from fetalflex.quality.fidelity.measure import Figure
from fetalflex.rng import generator


def further_figures(made: Judgement, real: Judgement, *, bootstrap: int, seed: int) -> Iterator[Figure]:
    """Yield boundary distances, size errors and what is missing or should be; `real`: the judge beside the experts."""
    columns = dict(_columns(made))
    floors = dict(_columns(real))
    for name, values in columns.items():
        if not np.isfinite(values).any():
            continue
        interval = median_interval if name.startswith("size_") else mean_interval
        clusters = made.clusters if values.ndim == 1 else np.repeat(made.clusters, values.shape[1])
        found: Interval = interval(values.ravel(), clusters, bootstrap, generator(seed, "control", name))
        floor = _floor(name, floors.get(name))
        n, n_real = int(np.isfinite(values).sum()), int(np.isfinite(floors.get(name, np.zeros(0))).sum())
        yield Figure(name, found.value, found.low, found.high, n, n_real, n, floor, n_real or None)


def _columns(judged: Judgement) -> Iterator[tuple[str, Floats]]:
    mean, high = boundary_distances(judged)
    gone, there = missing(judged), intruding(judged)
    yield "boundary_mm", mean
    yield "boundary95_mm", high
    yield "asked_but_absent", gone
    yield "absent_but_present", there
    for k, name in enumerate(STRUCTURE_NAMES):
        yield f"boundary_mm.{name}", mean[:, k]
        yield f"boundary95_mm.{name}", high[:, k]
        yield f"asked_but_absent.{name}", gone[:, k]
        yield f"absent_but_present.{name}", there[:, k]
    for name, errors in size_errors(judged).items():
        yield f"size_bias.{name}", errors
        yield f"size_error.{name}", np.abs(errors)


def _floor(name: str, values: Floats | None) -> float | None:
    if values is None or not np.isfinite(values).any():
        return None
    return float(np.nanmedian(values) if name.startswith("size_") else np.nanmean(values))
