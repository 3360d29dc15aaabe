"""Agreement of an image with its layout, and the outlines that an image itself shows inside asked boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, box_mask, mask_box, resize_mask
from fetalflex.anatomy.ontology import STRUCTURES, structure_index
from fetalflex.masks.segmenter import largest_part

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
_CONTRAST_WEIGHT = 0.5
_MIN_FILL = 0.2


def agreement(probabilities: Probabilities, asked: Layout, known: tuple[str, ...]) -> float:
    """Return the mean Dice, over asked structures that the segmenter knows, of what it sees with what was asked.

    probabilities: [K, S, S]. Where a box was asked, the box of what is seen is compared with it. NaN where nothing
    can be compared.
    """
    size = probabilities.shape[-1]
    scores = []
    for item in asked.objects:
        if item.structure not in known:
            continue
        seen = largest_part(probabilities[structure_index(item.structure)] > 0.5)
        if item.mask is None:
            wanted, box = box_mask(item.box, asked.extent, size), mask_box(seen, asked.extent)
            seen = seen if box is None else box_mask(box, asked.extent, size)
        else:
            wanted = resize_mask(item.mask, size)
        scores.append(dice(seen, wanted))
    return float(np.mean(scores)) if scores else float("nan")


def dice(first: Mask, second: Mask) -> float:
    """Return the Dice overlap of two masks; 1 where both are empty. Source: Dice 1945."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def adapt(layout: Layout, pixels: Pixels, probabilities: Probabilities) -> Layout:
    """Return the layout with a mask for each coarse object: its outline in this image, inside its asked box.

    Explicit masks and edited (abnormal) objects are returned untouched: a segmenter that knows only normal anatomy
    would heal an anomaly away. pixels: uint8 [S, S]; probabilities: [K, S, S].
    """
    objects = []
    for item in layout.objects:
        if item.mask is None and not item.edited:
            shape = outline(item, layout.extent, pixels, probabilities[structure_index(item.structure)])
            objects.append(item if shape is None else replace(item, mask=shape))
        else:
            objects.append(item)
    return replace(layout, objects=tuple(objects))


def outline(item: LayoutObject, extent: float, pixels: Pixels, chance: Probabilities) -> Mask | None:
    """Return a coarse object's mask bool [S, S] inside its box, or None where the image does not show one.

    The segmenter's log-odds, plus half of the log-likelihood ratio of the grey levels inside and outside its first
    guess. The grey levels count only where their contrast has the sign that the structure's echogenicity demands:
    fluid must be darker than what surrounds it.
    """
    size = pixels.shape[0]
    box = box_mask(item.box, extent, size)
    guess = largest_part((chance > 0.5) & box)
    if guess.sum() < _MIN_FILL * box.sum():
        return None
    odds = np.clip(chance, 0.05, 0.95)
    odds = np.log(odds / (1 - odds)) + _CONTRAST_WEIGHT * _contrast(item.structure, pixels, guess, box & ~guess)
    shape = largest_part((ndimage.gaussian_filter(odds, 0.5) > 0) & box)
    return shape if shape.sum() >= _MIN_FILL * box.sum() else None


def _contrast(structure: str, pixels: Pixels, inside: Mask, outside: Mask) -> npt.NDArray[np.float64]:
    """Return the log-likelihood ratio [S, S] of two normal grey-level models, within +-2; 0 where it does not apply."""
    grey = pixels.astype(np.float64) / 255
    echogenicity = STRUCTURES[structure_index(structure)].echogenicity
    if inside.sum() < 8 or outside.sum() < 8 or 0.3 <= echogenicity <= 0.7:
        return np.zeros(grey.shape)  # too few pixels, or a structure that is neither darker nor brighter as a whole
    mean_in, mean_out = grey[inside].mean(), grey[outside].mean()
    if (mean_in < mean_out) != (echogenicity < 0.3):
        return np.zeros(grey.shape)
    std_in, std_out = max(grey[inside].std(), 0.03), max(grey[outside].std(), 0.03)
    ratio = 0.5 * (((grey - mean_out) / std_out) ** 2 - ((grey - mean_in) / std_in) ** 2) + np.log(std_out / std_in)
    return np.clip(ratio, -2, 2)
