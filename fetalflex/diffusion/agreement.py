"""Agreement of an image with its layout, and the outlines that an image itself shows inside asked boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, box_mask, mask_box
from fetalflex.anatomy.ontology import STRUCTURES, structure_index
from fetalflex.masks.outlines import TypicalOutlines
from fetalflex.masks.segmenter import largest_part

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
Odds = npt.NDArray[np.float64]
_CONTRAST_WEIGHT = 0.5
_MIN_FILL = 0.2


def agreement(probabilities: Probabilities, asked: Layout, known: tuple[str, ...]) -> float:
    """Return the mean of `agreements`; NaN where nothing can be compared."""
    scores = list(agreements(probabilities, asked, known).values())
    return float(np.mean(scores)) if scores else float("nan")


def agreements(probabilities: Probabilities, asked: Layout, known: tuple[str, ...]) -> dict[str, float]:
    """Return, per asked structure that the segmenter knows, the Dice of what it sees with what was asked.

    probabilities: [K, S, S]. Several objects of one structure count as their union. Where boxes alone were asked, the
    boxes of what is seen are compared with them. A structure whose absence was asked scores 1 where none of it is
    seen, else 0.
    """
    found = {}
    for name in dict.fromkeys(item.structure for item in asked.objects):
        if name in known:
            found[name] = _overlap(probabilities[structure_index(name)] > 0.5, asked.all(name), asked.extent)
    for name in sorted(asked.absent.intersection(known)):
        found[name] = float(not (probabilities[structure_index(name)] > 0.5).any())
    return found


def _overlap(seen: Mask, objects: tuple[LayoutObject, ...], extent: float) -> float:
    """Return the Dice of the largest parts that are seen with the objects of one structure."""
    size = seen.shape[0]
    drawn = united([item.draw(extent, size) for item in objects], size)
    count = max(len(objects), int(ndimage.label(drawn)[1]))
    parts = largest_parts(seen, count)
    if all(item.is_box for item in objects):
        boxes = [mask_box(part, extent) for part in parts]
        parts = [box_mask(box, extent, size) for box in boxes if box is not None]
    return dice(united(parts, size), drawn)


def united(masks: list[Mask], size: int) -> Mask:
    """Return the union of masks, bool [size, size]."""
    result = np.zeros((size, size), bool)
    for mask in masks:
        result |= mask
    return result


def largest_parts(mask: Mask, count: int) -> list[Mask]:
    """Return the `count` largest connected parts of a mask, or all where there are fewer, with their holes filled."""
    if count == 1:
        return [largest_part(mask)]
    labels, found = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=1)[1:]
    order = np.argsort(-sizes, kind="stable")[: min(count, found)]
    return [np.asarray(ndimage.binary_fill_holes(labels == 1 + number), bool) for number in order]


def dice(first: Mask, second: Mask) -> float:
    """Return the Dice overlap of two masks; 1 where both are empty. Source: Dice 1945."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def adapt(
    layout: Layout, pixels: Pixels, probabilities: Probabilities, typical: TypicalOutlines | None = None
) -> Layout:
    """Return the layout with a mask for each coarse object: its outline in this image, inside its asked box.

    What outlines in such a box usually look like (`typical`) counts beside what is seen, and alone where nothing is.
    Explicit objects (mask, ellipse, polyline) and edited (abnormal) ones are returned untouched: a segmenter that
    knows only normal anatomy would heal an anomaly away. pixels: uint8 [S, S]; probabilities: [K, S, S].
    """
    objects = []
    for item in layout.objects:
        if item.is_box and not item.edited:
            usual = None if typical is None else typical.odds(item, layout, pixels.shape[0])
            shape = outline(item, layout.extent, pixels, probabilities[structure_index(item.structure)], usual)
            objects.append(item if shape is None else replace(item, mask=shape))
        else:
            objects.append(item)
    return replace(layout, objects=tuple(objects))


def outline(
    item: LayoutObject, extent: float, pixels: Pixels, chance: Probabilities, usual: Odds | None = None
) -> Mask | None:
    """Return a coarse object's mask bool [S, S] inside its box, or None where nothing tells its shape.

    The segmenter's log-odds, plus half of the log-likelihood ratio of the grey levels inside and outside its first
    guess, plus the log-odds of the usual outline, [S, S], where it is known: alone where the image shows none. The grey
    levels count only where their contrast has the sign that the structure's echogenicity demands: fluid must be darker
    than what surrounds it.
    """
    size = pixels.shape[0]
    box = box_mask(item.box, extent, size)
    guess = largest_part((chance > 0.5) & box)
    if guess.sum() >= _MIN_FILL * box.sum():
        odds = np.clip(chance, 0.05, 0.95)
        odds = np.log(odds / (1 - odds)) + _CONTRAST_WEIGHT * _contrast(item.structure, pixels, guess, box & ~guess)
        odds = ndimage.gaussian_filter(odds, 0.5)
        shape = largest_part((odds + (0 if usual is None else usual) > 0) & box)
        if shape.sum() >= _MIN_FILL * box.sum():
            return shape
    return usual > 0 if usual is not None and (usual > 0).any() else None


def _contrast(structure: str, pixels: Pixels, inside: Mask, outside: Mask) -> npt.NDArray[np.float64]:
    """Return the log-likelihood ratio [S, S] of two normal grey-level models, within +-2; 0 where it does not apply."""
    grey = pixels.astype(np.float64) / 255
    expected = STRUCTURES[structure_index(structure)]
    if inside.sum() < 8 or outside.sum() < 8 or not (expected.is_fluid or expected.echogenicity > 0.7):
        return np.zeros(grey.shape)  # too few pixels, or a structure that is neither darker nor brighter as a whole
    mean_in, mean_out = grey[inside].mean(), grey[outside].mean()
    if (mean_in < mean_out) != expected.is_fluid:
        return np.zeros(grey.shape)
    std_in, std_out = max(grey[inside].std(), 0.03), max(grey[outside].std(), 0.03)
    ratio = 0.5 * (((grey - mean_out) / std_out) ** 2 - ((grey - mean_in) / std_in) ** 2) + np.log(std_out / std_in)
    return np.clip(ratio, -2, 2)
