"""The segmenters `guide` and `judge`: a MONAI UNet that learns from partly annotated images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from fetalflex.anatomy.layout import Box, Mask, mask_box
from fetalflex.anatomy.ontology import PLANES, STRUCTURE_NAMES
from fetalflex.anatomy.statistics import FRAMES
from fetalflex.dataset import ABSENT, EXPERT, PREDICTED, Cases
from fetalflex.errors import ModelError
from fetalflex.imports import import_monai
from fetalflex.masks.outlines import TypicalOutlines
from fetalflex.model.batches import (
    Moves,
    Pictures,
    batch_positions,
    cases_digest,
    first_weights,
    seen_mean,
    step_random,
    to_signal,
)  # fmt: skip
from fetalflex.model.checkpoint import digest_of, load_weights, read_config, save_module
from fetalflex.model.loop import Loop, Plan, check_device
from fetalflex.params import Masks

BasicUNet = import_monai("monai.networks.nets").BasicUNet
KIND = "fetalflex-segmenter"
Role = Literal["guide", "judge"]
Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
_MOVES = Moves(flip=0.5, rotation_deg=12.0, scale=0.12, shift=0.06, log_gamma=0.35)
_BATCH, _LEVELS, _WARMUP = 8, 4, 20
OVALS, WHOLE = frozenset({"head", "abdomen", "thorax"}), 0.95
"""What is convex, and the solidity from which it is taken for whole: experts' outlines all have 1.0."""


class Segmenter(nn.Module):
    """K independent outputs, so that structures may overlap (a ventricle lies in the head).

    `trained` names the structures that its training cases showed: what it says of others means nothing. `outlines`:
    what the experts' outlines among them usually look like.
    """

    def __init__(self, channels: tuple[int, ...], trained: tuple[str, ...], role: Role) -> None:
        super().__init__()
        self.channels, self.trained, self.role = channels, trained, role
        if not 1 <= len(channels) <= _LEVELS:
            raise ModelError(f"masks.channels {channels}: expected 1 to {_LEVELS} numbers, one per halving of the map")
        widths = (*channels, *[channels[-1]] * (_LEVELS - len(channels)))
        self.net = BasicUNet(
            spatial_dims=2, in_channels=1, out_channels=len(STRUCTURE_NAMES),
            features=(channels[0], *widths, channels[0]), norm=("instance", {"affine": True}),
        )  # fmt: skip
        # Most pixels belong to no structure: starting near 2 % keeps small ones from being drowned at first.
        nn.init.constant_(self.net.final_conv.bias, -4.0)
        self.outlines = TypicalOutlines()

    def forward(self, signal: Tensor) -> Tensor:
        """Return logits [B, K, S, S] for images [B, 1, S, S] in [-1, 1]."""
        logits: Tensor = self.net(signal)
        return logits

    def predict(self, images: Images) -> Probabilities:
        """Return probabilities float32 [N, K, S, S] for images uint8 [N, S, S].

        Runs in constant, padded batches, so that an image's result does not depend on its company. Structures it
        was not trained on have probability 0.
        """
        size = images.shape[1:]
        result = np.zeros((len(images), len(STRUCTURE_NAMES), *size), np.float32)
        known = np.array([name in self.trained for name in STRUCTURE_NAMES])
        device = next(self.parameters()).device
        with torch.no_grad():
            for start in range(0, len(images), _BATCH):
                chunk = images[start : start + _BATCH]
                filled = np.concatenate([chunk, np.zeros((_BATCH - len(chunk), *size), np.uint8)])
                chances = self(to_signal(filled).to(device)).sigmoid().cpu().numpy()
                result[start : start + len(chunk)] = chances[: len(chunk)] * known[:, None, None]
        return result

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        config: dict[str, Any] = {"kind": KIND, "channels": self.channels, "trained": self.trained, "role": self.role}
        save_module(folder, self, config)

    @staticmethod
    def load(folder: Path) -> Segmenter:
        """Read a segmenter. Raises: ModelError where it is missing, damaged, pickled or another model's."""
        config = read_config(folder, KIND)
        try:
            segmenter = Segmenter(tuple(config["channels"]), tuple(config["trained"]), config["role"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder}: config.json is none of this version ({error}); run masks again") from error
        load_weights(segmenter, folder / "model.safetensors")
        return segmenter.eval()


@dataclass(frozen=True, eq=False)
class SegmenterStep:
    """One step of training, `step` counted from 1; `dice` of the batch's known structures, NaN if there is none.

    `trained` is the result, on the last step alone.
    """

    step: int
    loss: float
    dice: float
    trained: Segmenter | None = None


@dataclass(frozen=True)
class SegmenterRun:
    """Where and how a segmenter is trained. `threads` and `device` change the last bits of its result."""

    role: Role
    seed: int
    state_dir: Path | None = None
    threads: int = 1
    device: str = "cpu"


def train_segmenter(cases: Cases, params: Masks, run: SegmenterRun) -> Iterator[SegmenterStep]:
    """Train a segmenter on all given cases; resumes, bit for bit, from the last checkpoint in `run.state_dir`.

    Raises: TooFewCasesError, ModelError for a checkpoint of another configuration.
    """
    check_device(run.device)
    torch.set_num_threads(run.threads)
    seed = step_random(run.seed, "segmenter", run.role).initial_seed()
    shown = np.isin(cases.sources, (EXPERT, PREDICTED))
    trained = tuple(name for k, name in enumerate(STRUCTURE_NAMES) if shown[:, k].any())
    with first_weights(seed):
        segmenter = Segmenter(params.channels, trained, run.role)
    segmenter.outlines.fit(cases)
    segmenter.to(run.device)
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=params.learning_rate, weight_decay=1e-4)
    shape = list(segmenter.outlines.weights.shape)
    digest = digest_of(params, role=run.role, seed=run.seed, data=cases_digest(cases), outlines=shape)
    plan = Plan(params.steps, params.learning_rate, _WARMUP, params.checkpoint_every, digest, run.state_dir)
    loop = Loop(segmenter, optimizer, plan)
    pictures = Pictures(cases, _MOVES, run.device)
    weight = torch.from_numpy(known_structures(cases)).to(run.device)
    if loop.done == params.steps:
        yield SegmenterStep(loop.done, float("nan"), float("nan"), segmenter.eval())
    for step in loop.remaining():
        at = batch_positions(seed, step, len(cases), params.batch_size)
        images, masks, hidden = pictures.draw(at, step_random(seed, "step", step))
        loss, dice = segmentation_loss(segmenter(images), masks, weight[torch.from_numpy(at).to(run.device)], hidden)
        loop.update(step, loss)
        trained_now = segmenter.eval() if loop.is_last(step) else None
        yield SegmenterStep(step + 1, float(loss.detach()), dice, trained_now)


def known_structures(cases: Cases) -> npt.NDArray[np.float32]:
    """Return float32 [N, K]: 1 where a structure's mask is the truth, 0 where the loss must ignore it.

    A structure that is not annotated is unknown, not absent; but one that does not belong to the image's plane is
    absent. A bare box says nothing of single pixels.
    """
    names = np.array(STRUCTURE_NAMES)
    foreign = np.array([~np.isin(names, plane.structures) for plane in PLANES])
    annotated = np.isin(cases.sources, (EXPERT, PREDICTED))
    absent = foreign[cases.planes] & (cases.sources == ABSENT)
    return (annotated | absent).astype(np.float32)


def segmentation_loss(
    logits: Tensor, masks: Tensor, known: Tensor, ignored: Tensor | None = None
) -> tuple[Tensor, float]:
    """Return cross-entropy + Dice loss over known structures, and the mean Dice of those that are there.

    logits, masks: [B, K, S, S]; known: [B, K]; ignored: [B, 1, S, S], not 0 where a pixel must not count, or None.
    Source: soft Dice, Milletari et al. 2016 (arXiv 1606.04797), eq. 3.
    """
    chance = logits.sigmoid()
    if ignored is not None:
        seen = (ignored == 0).to(masks.dtype)
        chance, masks = chance * seen, masks * seen
    # A cavum of eight pixels would be drowned by four thousand others: what is there weighs more the smaller it is.
    rarity = (masks[0, 0].numel() / (masks.sum((2, 3), keepdim=True) + 1)).sqrt()
    pixels = F.binary_cross_entropy_with_logits(logits, masks, pos_weight=rarity, reduction="none")
    entropy = seen_mean(pixels, ignored, (2, 3))
    there = known * masks.flatten(2).any(-1)
    both = (chance * masks).sum((2, 3))
    dice = 1 - (2 * both + 1) / (chance.sum((2, 3)) + masks.sum((2, 3)) + 1)
    total = (entropy * known).sum() / known.sum().clamp(min=1) + (dice * there).sum() / there.sum().clamp(min=1)
    with torch.no_grad():
        hard = (chance > 0.5).float()
        overlap = 2 * (hard * masks).sum((2, 3)) / (hard.sum((2, 3)) + masks.sum((2, 3))).clamp(min=1)
        score = float((overlap * there).sum() / there.sum()) if there.any() else float("nan")
    return total, score


@dataclass(frozen=True, eq=False)
class PredictedStructure:
    """A structure found in image `image`: its mask bool [S, S], its box in pixels, and how sure the segmenter is."""

    image: int
    structure: str
    mask: Mask
    box: Box
    confidence: float


def predicted_structures(
    probabilities: Probabilities, planes: npt.NDArray[np.int64], min_confidence: float, min_solidity: float = 0.0
) -> list[PredictedStructure]:
    """Return the structures of each image [N, K, S, S] that belong to its plane and reach the confidence.

    A mask is the largest connected part above one half, without holes. Confidence: the mean probability in it. What
    lies mostly outside of the structure that frames the plane is not believed: no cavum lies beside the head. Where
    that frame is an oval and fills less than `min_solidity` of its convex hull, nothing is: no head has a bay.
    """
    found = []
    for image, (chances, number) in enumerate(zip(probabilities, planes, strict=True)):
        plane, seen = PLANES[int(number)], dict[str, PredictedStructure]()
        for name in plane.structures:
            chance = chances[STRUCTURE_NAMES.index(name)]
            mask = largest_part(chance > 0.5)
            box = mask_box(mask, float(mask.shape[0]))
            if box is None:
                continue
            confidence = float(chance[mask].mean())
            if confidence >= min_confidence:
                seen[name] = PredictedStructure(image, name, mask, box, confidence)
        frame = seen.get(FRAMES[plane.name][0]) if plane.name in FRAMES else None
        if frame is not None and frame.structure in OVALS and solidity(frame.mask) < min_solidity:
            continue
        found += [x for x in seen.values() if frame is None or x.mask[frame.mask].sum() >= x.mask.sum() / 2]
    return found


def solidity(mask: Mask) -> float:
    """Return the share of its convex hull's pixels that a mask which is not empty fills; 1 for all that is convex.

    The hull's pixels are counted by Pick's theorem: area + half of those on its border + 1.
    """
    hull = cv2.convexHull(np.argwhere(mask).astype(np.int32))[:, 0]
    border = np.gcd(*np.abs(np.roll(hull, -1, 0) - hull).T).sum()
    return float(mask.sum() / (cv2.contourArea(hull) + border / 2 + 1))


def largest_part(mask: Mask) -> Mask:
    """Return the largest connected part of a mask with its holes filled; empty where the mask is."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    part: Mask = ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))
    return part
