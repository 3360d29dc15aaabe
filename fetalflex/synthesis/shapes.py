"""Normal layouts as statistics: what a user without training data draws new layouts from.

Per plane: where the part that frames it lies, how large and how turned it is, and where, how large and how turned
each structure is in it, all as ellipses. Means, covariances and counts of at least `FEWEST` layouts, no outline and no
row of any patient: so they may travel with the weights. (`anatomy.statistics` knows ages, and needs the layouts.)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.ontology import PLANE_NAMES, plane
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.errors import LayoutError

Floats = npt.NDArray[np.float64]
FEWEST = 8
_GRID, _TURNS, _TRIES, _LIMIT = 96, 12, 60, 2.0
_COMMON = 0.5  # of the layouts: what is rarer does not frame a plane
_SMALLEST = 6  # pixels of the grid: smaller masks tell no shape
_OUTSIDE = 0.1  # of a structure may lie out of its frame
# Standard deviations added to each number, so that few layouts do not give copies: place, log size, log ratio, turn.
_SMEAR = np.array([0.03, 0.03, 0.05, 0.05, 0.1])


@dataclass(frozen=True)
class _Oval:
    """An ellipse of equal second moments, in fractions of the side: centre, semi-axes (long, short), turn (radians)."""

    x: float
    y: float
    long: float
    short: float
    turn: float


def fit_shapes(layouts: Iterable[Layout]) -> dict[str, Any]:
    """Return statistics per plane, as JSON's types; a plane of which too few layouts show a structure asks for none."""
    by_plane: dict[str, list[Layout]] = {}
    for layout in layouts:
        if any(o.edited for o in layout.objects) or layout.absent:
            raise LayoutError("layout statistics: a layout is abnormal; expected normal ones only")
        by_plane.setdefault(layout.plane, []).append(layout)
    return {name: _fit_plane(by_plane[name]) for name in PLANE_NAMES if name in by_plane and name != "unknown"}


def sample_shapes(shapes: Mapping[str, Any], name: str, rng: np.random.Generator) -> Layout:
    """Return a new normal layout of a plane, in image units; without objects where the statistics know none.

    All numbers stay within 2 standard deviations, and structures within their frame.
    Raises: LayoutError for a plane that the statistics do not know, or where none is found in 60 tries.
    """
    plane(name)
    if name not in shapes:
        known = ", ".join(sorted(shapes)) or "none"
        raise LayoutError(f"plane {name!r}: the model has no layout statistics of it; expected {known}, or --layout")
    found = shapes[name]
    if found["frame"] is None:
        return Layout(name, "image", 1.0, ())
    try:
        for _ in range(_TRIES):
            ovals = _draw(found, rng)
            if _plausible(ovals, found["frame"]):
                return Layout(name, "image", 1.0, tuple(LayoutObject.of(n, _ellipse(o)) for n, o in ovals.items()))
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise LayoutError(f"plane {name!r}: the model's layout statistics are damaged ({error})") from error
    raise LayoutError(f"plane {name!r}: no plausible layout in {_TRIES} tries; give one with --layout")


def _fit_plane(layouts: list[Layout]) -> dict[str, Any]:
    drawn = [found for found in (_ovals(layout) for layout in layouts) if found]
    counts = {n: sum(n in d for d in drawn) for n in plane(layouts[0].plane).structures}
    common = [n for n, c in counts.items() if c >= max(FEWEST, _COMMON * len(drawn))]
    if not common:
        return {"n": len(layouts), "frame": None}
    frame = max(common, key=lambda n: float(np.median([d[n].long * d[n].short for d in drawn if n in d])))
    drawn = [d for d in drawn if frame in d]
    # The first structure that most layouts show tells which way the frame points; none: both ways are alike.
    markers = [n for n in common if n != frame]
    others = [n for n, c in counts.items() if n != frame and c >= FEWEST]
    if markers:
        drawn = [d for d in drawn if markers[0] in d]
    turned = [_oriented(d, frame, markers) for d in drawn]
    poses = np.array([[d[frame].x, d[frame].y, *_size(d[frame])] for d in drawn])
    inside = np.array(
        [[v for n in others for v in _within(d, frame, n, t)] for d, t in zip(drawn, turned, strict=True)]
    )
    present = [float(np.mean([n in d for d in drawn])) for n in others]
    kept = [i for i, p in enumerate(present) if p * len(drawn) >= FEWEST]
    inside = inside.reshape(len(drawn), len(others), 5)[:, kept].reshape(len(drawn), -1)
    turns = np.bincount([int(t / (2 * np.pi) * _TURNS) % _TURNS for t, _ in turned], minlength=_TURNS)
    return {
        "n": len(drawn), "frame": frame, "pose": _normal(poses), "turns": (turns / turns.sum()).round(4).tolist(),
        "mirrored": round(float(np.mean([m for _, m in turned])), 4),
        "structures": [others[i] for i in kept], "present": [round(present[i], 4) for i in kept],
        "inside": _normal(inside, np.tile(_SMEAR, len(kept))),
    }  # fmt: skip


def _ovals(layout: Layout) -> dict[str, _Oval]:
    """Return the ovals of a layout's structures; several objects of one structure have no place, and are left out."""
    found = {}
    for item in layout.objects:
        if len(layout.all(item.structure)) > 1:
            continue
        mask = item.draw(layout.extent, _GRID)
        if mask.sum() < _SMALLEST:
            continue
        points = (np.argwhere(mask)[:, ::-1] + 0.5) / _GRID
        values, vectors = np.linalg.eigh(np.cov(points.T) + np.eye(2) / (12 * _GRID**2))
        short, long = 2 * np.sqrt(np.maximum(values, 1e-8))
        turn = float(np.arctan2(vectors[1, 1], vectors[0, 1]))
        x, y = points.mean(0)
        found[item.structure] = _Oval(float(x), float(y), float(long), float(short), turn)
    return found


def _size(oval: _Oval) -> tuple[float, float]:
    return float(np.log(oval.long * oval.short) / 2), float(np.log(oval.short / oval.long))


def _oriented(ovals: Mapping[str, _Oval], frame: str, markers: list[str]) -> tuple[float, bool]:
    """Return the frame's turn in [0, 2 pi), its long axis pointing to the first marker, and whether it is mirrored."""
    whole = ovals[frame]
    turn, mirrored = whole.turn, False
    if markers:
        first = _local(whole, ovals[markers[0]], turn)
        turn = turn if first[0] >= 0 else turn + np.pi
        second = next((ovals[n] for n in markers[1:] if n in ovals), ovals[markers[0]])
        mirrored = bool(_local(whole, second, turn)[1] < 0)
    return float(turn % (2 * np.pi)), mirrored


def _local(whole: _Oval, part: _Oval, turn: float) -> Floats:
    """Return a part's centre in the frame's axes, in its semi-axes."""
    c, s = np.cos(turn), np.sin(turn)
    dx, dy = part.x - whole.x, part.y - whole.y
    return np.array([(dx * c + dy * s) / whole.long, (dy * c - dx * s) / whole.short])


def _within(ovals: Mapping[str, _Oval], frame: str, name: str, pose: tuple[float, bool]) -> list[float]:
    """Return place, log size, log ratio and turn of a structure in its frame; NaN where it is not shown."""
    if name not in ovals:
        return [float("nan")] * 5
    whole, part, (turn, mirrored) = ovals[frame], ovals[name], pose
    sign = -1.0 if mirrored else 1.0
    x, y = _local(whole, part, turn)
    size, ratio = _size(part)
    angle = sign * (part.turn - turn)
    return [x, sign * y, size - _size(whole)[0], ratio, float((angle + np.pi / 2) % np.pi - np.pi / 2)]


def _normal(values: Floats, smear: Floats | float = 0.0) -> dict[str, Any]:
    """Return mean and covariance of rows that may hold NaN: those count as the mean, and widen nothing."""
    mean = np.nanmean(values, axis=0) if values.size else np.zeros(values.shape[1])
    spread = np.nan_to_num(values - mean)
    known = np.maximum(np.isfinite(values).sum(0), 2)
    covariance = spread.T @ spread / np.sqrt(np.outer(known, known)) + np.diag(np.ones(len(mean)) * smear**2)
    return {"mean": mean.round(5).tolist(), "covariance": covariance.round(7).tolist()}


def _sampled(normal: Mapping[str, Any], rng: np.random.Generator) -> Floats:
    mean, covariance = np.array(normal["mean"], float), np.array(normal["covariance"], float)
    if not len(mean):
        return mean
    root = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(mean)))
    limit = _LIMIT * np.sqrt(np.diag(covariance) + 1e-6)
    drawn: Floats = mean + np.clip(root @ rng.standard_normal(len(mean)), -limit, limit)
    return drawn


def _draw(found: Mapping[str, Any], rng: np.random.Generator) -> dict[str, _Oval]:
    x, y, size, ratio = _sampled(found["pose"], rng)
    turn = (rng.choice(_TURNS, p=np.array(found["turns"]) / np.sum(found["turns"])) + rng.random()) * 2 * np.pi / _TURNS
    whole = _oval(x, y, size, min(ratio, 0.0), turn)
    sign = -1.0 if rng.random() < found["mirrored"] else 1.0
    ovals = {found["frame"]: whole}
    values = _sampled(found["inside"], rng).reshape(-1, 5)
    c, s = np.cos(turn), np.sin(turn)
    for name, chance, (u, v, grow, part_ratio, angle) in zip(
        found["structures"], found["present"], values, strict=True
    ):
        if rng.random() >= chance:
            continue
        u, v = u * whole.long, sign * v * whole.short
        centre = whole.x + u * c - v * s, whole.y + u * s + v * c
        ovals[name] = _oval(*centre, size + grow, min(part_ratio, 0.0), turn + sign * angle)
    return ovals


def _oval(x: float, y: float, size: float, ratio: float, turn: float) -> _Oval:
    return _Oval(x, y, float(np.exp(size - ratio / 2)), float(np.exp(size + ratio / 2)), turn)


def _ellipse(oval: _Oval) -> Ellipse:
    return Ellipse((oval.x, oval.y), (oval.long, oval.short), float(np.degrees(oval.turn)))


def _plausible(ovals: Mapping[str, _Oval], frame: str) -> bool:
    """Whether all lies on the canvas, and each structure within its frame."""
    boxes = np.array([_ellipse(o).bounds() for o in ovals.values()])
    if boxes.min() < 0 or boxes.max() > 1:
        return False
    whole = _ellipse(ovals[frame]).draw(1.0, _GRID)
    drawn = [_ellipse(o).draw(1.0, _GRID) for n, o in ovals.items() if n != frame]
    return all((d & ~whole).sum() <= _OUTSIDE * d.sum() for d in drawn)
