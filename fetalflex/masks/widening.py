"""Wide fluid spaces painted into normal images: what a segmenter must have seen to find them, and no normal shows.

No center's training group holds an anomaly, so a segmenter that learns from it has never seen a wide ventricle and
marks the narrow one that it expects. These copies are for segmenters alone: the generator's training cannot reach them.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.anatomy.anomalies import ANOMALIES, apply_anomaly
from fetalflex.anatomy.layout import Mask
from fetalflex.anatomy.ontology import PLANES, structure_index
from fetalflex.dataset import EXPERT, Cases
from fetalflex.errors import AnomalyError, LayoutError
from fetalflex.rng import generator

_ANOMALY, _VENTRICLE = "ventriculomegaly", "lateral-ventricle"
_SEVERITY_MM = (10.5, 22.0)
_CHOROID, _WALL = 0.6, 0.7  # how often plexus and a bright wall are painted
Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


def with_widened(cases: Cases, share: float, seed: int) -> Cases:
    """Return the cases and, after them, copies with a widened ventricle: `share` x as many as show an expert's outline.

    A copy has the id of its case and `-widened`; its other structures are its case's. Where there is no room for the
    severity that was drawn, there is no copy.
    """
    if not len(cases):
        return cases
    k = structure_index(_VENTRICLE)
    planes = [p.name in ANOMALIES[_ANOMALY].planes for p in PLANES]
    fit = np.array(planes)[cases.planes] & (cases.sources[:, k] == EXPERT)
    random = generator(seed, "widened ventricles")
    able = np.flatnonzero(fit & (cases.sources[:, structure_index("head")] != 0))
    chosen = np.sort(random.permutation(able)[: round(share * len(able))])
    made = [copy for i in chosen if (copy := widened(cases, int(i), seed)) is not None]
    parts = [cases, *made]
    return Cases(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Cases)})


def widened(cases: Cases, index: int, seed: int) -> Cases | None:
    """Return case `index` with its ventricle widened, as cases of length 1; None where that is impossible."""
    one, k = cases.take([index]), structure_index(_VENTRICLE)
    random = generator(seed, "widened ventricle", str(one.ids[0]))
    try:
        layout = apply_anomaly(cases.layout(index), _ANOMALY, float(random.uniform(*_SEVERITY_MM)), random)
    except (AnomalyError, LayoutError):  # no room in this head, or as wide already: nothing to copy
        return None
    shape = np.logical_or.reduce([item.draw(layout.extent, cases.size) for item in layout.all(_VENTRICLE)])
    masks = one.masks.copy()
    masks[0, k] = shape
    image = paint_fluid(one.images[0], shape, one.masks[0, structure_index("head")], random)
    return replace(one, ids=np.array([f"{one.ids[0]}-widened"]), images=image[None], masks=masks)


def paint_fluid(image: Pixels, shape: Mask, around: Mask, random: np.random.Generator) -> Pixels:
    """Return the image uint8 [S, S] with `shape` filled by fluid as this device shows it, its border softened.

    The fluid's level is a low quantile of the grey in `around` (the head), its noise is multiplicative. Often a bright
    wall lies along the border and an echogenic choroid plexus along a part of the inside.
    """
    size, scale = image.shape[0], image.shape[0] / 64
    inside = image[around & ~shape].astype(np.float64) if (around & ~shape).any() else image.astype(np.float64).ravel()
    low, high = np.quantile(inside, random.uniform(0.02, 0.2)), np.quantile(inside, random.uniform(0.75, 0.95))
    noise = ndimage.gaussian_filter(random.rayleigh(1.0, (size, size)), 0.4 * scale)
    fluid = low * noise / noise.mean()
    if random.random() < _CHOROID:
        plexus = _plexus(shape, random, scale)
        fluid = fluid * (1 - plexus) + plexus * high * noise / noise.mean() * random.uniform(0.5, 1.0)
    if random.random() < _WALL:
        rim = shape & ~ndimage.binary_erosion(shape, iterations=max(1, round(0.6 * scale)))
        bright = ndimage.gaussian_filter(rim.astype(np.float64), 0.4 * scale)
        fluid = np.maximum(fluid, bright * high * random.uniform(0.4, 1.2))
    soft = ndimage.gaussian_filter(shape.astype(np.float64), random.uniform(0.3, 0.8) * scale)
    mixed = image * (1 - soft) + fluid * soft
    painted: Pixels = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return painted


def _plexus(shape: Mask, random: np.random.Generator, scale: float) -> Floats:
    """Return where a plexus lies inside a shape, 0 to 1 [S, S]: an ellipse around a point of it, along its axes."""
    points = np.argwhere(shape).astype(np.float64)
    centre = points[random.integers(len(points))]
    spread = np.linalg.eigh(np.cov((points - points.mean(0)).T) + np.eye(2))
    sides = np.sqrt(spread.eigenvalues) * random.uniform(0.4, 0.9, 2)
    offsets = (np.indices(shape.shape).reshape(2, -1).T - centre) @ spread.eigenvectors / sides
    blob = (np.square(offsets).sum(1) < 1).reshape(shape.shape) & ndimage.binary_erosion(shape)
    soft: Floats = ndimage.gaussian_filter(blob.astype(np.float64), 0.4 * scale)
    return soft
