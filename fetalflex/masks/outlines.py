"""Typical outlines: the outline that a structure usually has in a box of this place and proportion.

A box says where something is, not what it looks like. What is known of the latter is in the experts' outlines of the
training patients: per structure a linear model of the signed distance to the outline, on a grid over the box, by where
the box lies in its plane's frame (a ventricle slants with the side that it is on) and by its proportion. It is a mean
over patients: no training outline can be read from it.

Sources: signed distances as a shape's description, Leventon et al. 2000 (CVPR, Statistical shape influence in geodesic
active contours); ridge regression, Hoerl & Kennard 1970.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from fetalflex.anatomy.layout import Box, Layout, LayoutObject, Mask, box_mask, signed_distance
from fetalflex.anatomy.ontology import PLANES, STRUCTURE_NAMES, structure_index
from fetalflex.anatomy.statistics import FRAMES
from fetalflex.dataset import EXPERT, Cases

Floats = npt.NDArray[np.float64]
GRID, FEATURES = 32, 4
LEAST_CASES = 12
"""Outlines that a structure's model needs; each counts twice, straight and mirrored, as in training."""
_PENALTY = 10.0  # as many outlines as a feature must win over
_LEAST_PIXELS = 8
_LOGISTIC = 1.702  # the logistic function of 1.702 z is the normal distribution's at z, within 0.01 (Haley 1952)


class TypicalOutlines(nn.Module):
    """The models of all K structures, as buffers: saved with the network that they belong to.

    weights: float32 [K, 1 + F, G, G], signed distance (positive inside) at features 0, and its change with each; zero
    where too few outlines were seen. ranges: float32 [K, 3, F], least, mean and greatest feature of those. spread:
    float32 [K], standard deviation of what the model leaves of the distances.
    """

    weights: Tensor
    ranges: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(len(STRUCTURE_NAMES), 1 + FEATURES, GRID, GRID))
        self.register_buffer("ranges", torch.zeros(len(STRUCTURE_NAMES), 3, FEATURES))
        self.register_buffer("spread", torch.ones(len(STRUCTURE_NAMES)))

    def fit(self, cases: Cases) -> None:
        """Fit every structure of which the cases have at least LEAST_CASES outlines by experts."""
        for k in range(len(STRUCTURE_NAMES)):
            outlines = [
                seen for i in np.flatnonzero(cases.sources[:, k] == EXPERT) for seen in _outlines(cases, int(i), k)
            ]
            if len(outlines) < LEAST_CASES:
                continue
            shapes, features = [], []
            for mask, frame in outlines:
                for step in (1, -1):
                    turned, box = mask[:, ::step], _tight(mask[:, ::step])
                    shapes.append(signed_distance(_resized(turned[_slices(box)], GRID, GRID) > 0.5).ravel())
                    features.append(box_features(box, None if frame is None else _tight(frame[:, ::step])))
            weights, ranges, spread = _ridge(np.array(features), np.array(shapes))
            self.weights[k] = torch.from_numpy(weights.reshape(1 + FEATURES, GRID, GRID))
            self.ranges[k], self.spread[k] = torch.from_numpy(ranges), spread

    def knows(self, structure: str) -> bool:
        """Return whether the structure's outlines were seen."""
        return bool(self.weights[structure_index(structure)].any())

    def odds(self, item: LayoutObject, layout: Layout, size: int) -> Floats | None:
        """Return the log-odds that a pixel of an object's box is inside its outline, [size, size]; outside -inf.

        None for a structure whose outlines were not seen. The plane's frame is looked for in the layout.
        """
        if not self.knows(item.structure):
            return None
        k = structure_index(item.structure)
        low, mean, high = self.ranges[k].double().cpu().numpy()
        features = box_features(item.box, _frame_box(layout))
        features = np.clip(np.where(np.isnan(features), mean, features), low, high)
        weights = self.weights[k].double().cpu().numpy()
        distance = weights[0] + np.tensordot(features, weights[1:], 1)
        place = _slices(_tight(box_mask(item.box, layout.extent, size)))
        found = np.full((size, size), -np.inf)
        found[place] = _resized(_LOGISTIC / float(self.spread[k]) * distance, *found[place].shape)
        return found

    def drawn(self, layout: Layout, size: int) -> Layout:
        """Return the layout with its typical outline for each object that is asked by its box alone and not edited."""
        objects = []
        for item in layout.objects:
            odds = None
            if item.is_box and not item.edited:
                odds = self.odds(item, layout, size)
            objects.append(replace(item, mask=odds > 0) if odds is not None and (odds > 0).any() else item)
        return replace(layout, objects=tuple(objects))


def box_features(box: Box, frame: Box | None) -> Floats:
    """Return what the outline in a box may depend on, [F].

    x and y of its centre from the frame's centre, in half sides of the frame, their product, and the logarithm of width
    over height. Without a frame the first three are NaN.
    """
    proportion = np.log((box[2] - box[0]) / (box[3] - box[1]))
    if frame is None:
        return np.array([np.nan, np.nan, np.nan, proportion])
    x, y = ((box[i] + box[i + 2] - frame[i] - frame[i + 2]) / (frame[i + 2] - frame[i]) for i in (0, 1))
    return np.array([x, y, x * y, proportion])


def _ridge(features: Floats, shapes: Floats) -> tuple[Floats, Floats, float]:
    """Return weights [1 + F, P] of shapes [N, P] on features [N, F] as they are, ranges [3, F], and what is left."""
    known = ~np.isnan(features)
    means = np.where(known, features, 0).sum(0) / np.maximum(known.sum(0), 1)
    features = np.where(known, features, means)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    scaled = (features - mean) / spread
    slopes = np.linalg.solve(scaled.T @ scaled + _PENALTY * np.eye(FEATURES), scaled.T @ (shapes - shapes.mean(0)))
    slopes /= spread[:, None]
    base = shapes.mean(0) - mean @ slopes
    left = float((shapes - base - features @ slopes).std())
    return np.vstack([base[None], slopes]), np.stack([features.min(0), mean, features.max(0)]), max(left, 0.5)


def _outlines(cases: Cases, index: int, structure: int) -> list[tuple[Mask, Mask | None]]:
    """Return the parts of a case's mask (two kidneys, say), each with the frame's mask, None where it is not known."""
    parts, count = ndimage.label(cases.masks[index, structure])
    plane = PLANES[int(cases.planes[index])].name
    frame = cases.masks[index, structure_index(FRAMES[plane][0])] if plane in FRAMES else None
    frame = frame if frame is not None and frame.any() else None
    masks = [parts == 1 + number for number in range(count)]
    return [(mask, frame) for mask in masks if mask.sum() >= _LEAST_PIXELS]


def _frame_box(layout: Layout) -> Box | None:
    frame = layout.find(FRAMES[layout.plane][0]) if layout.plane in FRAMES else None
    return None if frame is None else frame.box


def _tight(mask: Mask) -> Box:
    """Return the box (x0, y0, x1, y1) of a mask in pixels. The mask is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _slices(box: Box) -> tuple[slice, slice]:
    x0, y0, x1, y1 = (round(v) for v in box)
    return slice(y0, y1), slice(x0, x1)


def _resized(values: npt.NDArray[np.generic], rows: int, columns: int) -> npt.NDArray[np.float32]:
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
