"""What the generator is asked for, as tensors: layouts on the pixel grid, plane, center and age, each optional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index, structure_index
from fetalflex.dataset import EXPERT_BOX, Cases
from fetalflex.errors import ModelError

NOT_ASKED, AS_BOX, AS_MASK = 0, 1, 2
NOT_STATED = "not-stated"
PAIRED = tuple(structure_index(name) for name in ("kidney", "renal-pelvis"))
"""Structures of which an image shows two, in one channel."""


@dataclass(frozen=True, eq=False)
class Condition:
    """The conditions of B images; K structures on an S x S canvas. Whatever is not asked has a value that says so.

    maps: float32 [B, K, S, S], 1 inside the mask or box, 0 elsewhere and where nothing is asked;
    kinds: int64 [B, K], 0 not asked, 1 asked as box, 2 asked as mask;
    boxes: float32 [B, K, 4], x0 y0 x1 y1 as fractions of the side; plane: int64 [B], 0 not stated;
    center: int64 [B], 0 not stated; age: float32 [B] weeks, NaN not stated.
    """

    maps: Tensor
    kinds: Tensor
    boxes: Tensor
    plane: Tensor
    center: Tensor
    age: Tensor

    def __len__(self) -> int:
        return int(self.kinds.shape[0])

    def to(self, device: torch.device | str) -> Condition:
        """Return the same condition on a device."""
        return Condition(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def take(self, index: Tensor | Sequence[int]) -> Condition:
        """Return the conditions at these positions."""
        return Condition(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def join(parts: Sequence[Condition]) -> Condition:
        """Return conditions one after the other in one batch."""
        return Condition(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Condition)})


def null_condition(condition: Condition) -> Condition:
    """Return a condition of the same shape and device that asks for nothing: the null of classifier-free guidance.

    Source: Ho & Salimans 2022, Classifier-Free Diffusion Guidance (arXiv 2207.12598).
    """
    return Condition(
        torch.zeros_like(condition.maps),
        torch.zeros_like(condition.kinds),
        torch.zeros_like(condition.boxes),
        torch.zeros_like(condition.plane),
        torch.zeros_like(condition.center),
        torch.full_like(condition.age, torch.nan),
    )


def center_vocabulary(centers: Sequence[str]) -> tuple[str, ...]:
    """Return the vocabulary of centers: 0 is *not stated*, then the known ones in sorted order."""
    return (NOT_STATED, *sorted(set(centers) - {NOT_STATED}))


def condition_from_layouts(layouts: Sequence[Layout], vocabulary: Sequence[str], size: int) -> Condition:
    """Return the condition that asks for these layouts. An age counts alike, stated or derived.

    A structure with an object of known outline and another with a box alone is asked as boxes: one kind says how the
    whole of its map is meant.
    Raises: ModelError for a center that the vocabulary does not have.
    """
    drawn = [rasterize(_one_kind(layout), size) for layout in layouts]
    ages = [np.nan if layout.age_weeks is None else layout.age_weeks for layout in layouts]
    return Condition(
        torch.from_numpy(np.stack([d.maps for d in drawn])),
        torch.from_numpy(np.stack([d.kinds for d in drawn])),
        torch.from_numpy(np.stack([d.boxes for d in drawn])),
        torch.tensor([plane_index(layout.plane) for layout in layouts]),
        torch.tensor([_center_index(layout.center, vocabulary) for layout in layouts]),
        torch.tensor(ages, dtype=torch.float32),
    )


class Described:
    """What cases state, as a condition, for any of them at a time; unknown structures are not asked for.

    Raises: ModelError for a center that the vocabulary does not have.
    """

    def __init__(self, cases: Cases, vocabulary: Sequence[str]) -> None:
        sources = torch.from_numpy(cases.sources.astype(np.int64))
        self.kinds = torch.where(sources == 0, NOT_ASKED, torch.where(sources == EXPERT_BOX, AS_BOX, AS_MASK))
        self.plane = torch.from_numpy(cases.planes.astype(np.int64))
        self.center = torch.tensor([_center_index(str(c), vocabulary) for c in cases.centers], dtype=torch.int64)
        self.age = torch.from_numpy(cases.ages.astype(np.float32))

    def at(self, positions: Tensor, maps: Tensor) -> Condition:
        """Return the condition of the cases at these positions, whose maps [B, K, S, S] may have been moved."""
        parts = (part[positions].to(maps.device) for part in (self.plane, self.center, self.age))
        kinds = self.kinds[positions].to(maps.device)
        return settle(Condition(maps, kinds, maps.new_zeros(*kinds.shape, 4), *parts))


def condition_from_cases(cases: Cases, vocabulary: Sequence[str]) -> Condition:
    """Return the condition that describes these cases; unknown structures are not asked for.

    Raises: ModelError for a center that the vocabulary does not have.
    """
    return Described(cases, vocabulary).at(torch.arange(len(cases)), torch.from_numpy(cases.masks).float())


def settle(condition: Condition) -> Condition:
    """Return the condition with kinds, maps and boxes made consistent after the maps were moved or dropped.

    An empty map is not asked for; a map that is not asked for is empty; boxes are the tight boxes of the maps.
    """
    visible = condition.maps.flatten(2).any(-1)
    kinds = torch.where(visible, condition.kinds, NOT_ASKED)
    maps = condition.maps * (kinds > NOT_ASKED)[..., None, None]
    return replace(condition, maps=maps, kinds=kinds, boxes=tight_boxes(maps))


def tight_boxes(maps: Tensor) -> Tensor:
    """Return the tight boxes of maps [B, K, S, S] as float32 [B, K, 4], fractions of the side; zeros where empty."""
    size = maps.shape[-1]
    sides = []
    for line in (maps.amax(-2) > 0.5, maps.amax(-1) > 0.5):  # columns (x), rows (y): [B, K, S]
        first = line.float().argmax(-1)
        last = size - line.flip(-1).float().argmax(-1)
        empty = ~line.any(-1)
        sides.append((first.masked_fill(empty, 0), last.masked_fill(empty, 0)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], -1).float() / size


def fill_boxes(boxes: Tensor, size: int) -> Tensor:
    """Return float32 [B, K, size, size]: 1 at pixels whose centre lies in the box [B, K, 4] (fractions)."""
    centres = (torch.arange(size, device=boxes.device) + 0.5) / size
    x0, y0, x1, y1 = (side[..., None] for side in boxes.unbind(-1))
    columns = (centres >= x0) & (centres < x1)
    rows = (centres >= y0) & (centres < y1)
    return (rows[..., :, None] & columns[..., None, :]).float()


def box_maps(condition: Condition) -> Tensor:
    """Return float32 [B, K, S, S]: each structure's box filled; of a paired structure the box of each of its parts.

    So it is in sampling, where two kidneys are two objects with a box each.
    """
    filled = fill_boxes(condition.boxes, condition.maps.shape[-1])
    for k in PAIRED:
        for row in torch.nonzero(condition.maps[:, k].flatten(1).any(1)).flatten().tolist():
            parts, count = ndimage.label(condition.maps[row, k].cpu().numpy() > 0.5)
            if count > 1:
                filled[row, k] = 0
                for rows, columns in ndimage.find_objects(parts):
                    filled[row, k, rows, columns] = 1
    return filled


@dataclass(frozen=True)
class Dropping:
    """Probabilities with which training leaves conditions out, so that sampling may do without them too."""

    layout: float
    obj: float
    to_box: float
    modality: float


def drop_conditions(condition: Condition, chances: Dropping, random: torch.Generator) -> Condition:
    """Return the condition with random parts left out, drawn from a CPU generator, independently per image.

    Masks become boxes, objects go one by one, then plane, center and age, and the layout as a whole.
    """
    batch, count = condition.kinds.shape
    device = condition.kinds.device

    def chosen(chance: float, *shape: int) -> Tensor:
        return (torch.rand(shape, generator=random) < chance).to(device)

    # One draw per image decides between keeping and boxing all masks, another per object mixes the two.
    boxed = chosen(chances.to_box, batch, 1) ^ chosen(0.25 * chances.to_box, batch, count)
    boxed &= condition.kinds == AS_MASK
    gone = chosen(chances.obj, batch, count) | chosen(chances.layout, batch, 1)
    kinds = torch.where(boxed, AS_BOX, condition.kinds).masked_fill(gone, NOT_ASKED)
    maps = torch.where(boxed[..., None, None], box_maps(condition), condition.maps)
    asked = kinds > NOT_ASKED
    return Condition(
        maps * asked[..., None, None],
        kinds,
        condition.boxes * asked[..., None],
        condition.plane.masked_fill(chosen(chances.modality, batch), 0),
        condition.center.masked_fill(chosen(chances.modality, batch), 0),
        condition.age.masked_fill(chosen(chances.modality, batch), torch.nan),
    )


def _one_kind(layout: Layout) -> Layout:
    bare = {o.structure for o in layout.objects if o.is_box}
    objects = (replace(o, mask=None, shape=None) if o.structure in bare else o for o in layout.objects)
    return replace(layout, objects=tuple(objects))


def _center_index(center: str | None, vocabulary: Sequence[str]) -> int:
    if center is None:
        return 0
    if center not in vocabulary:
        raise ModelError(f"center {center!r} is unknown to the model; expected one of {', '.join(vocabulary)}")
    return vocabulary.index(center)


STRUCTURE_COUNT = len(STRUCTURE_NAMES)
