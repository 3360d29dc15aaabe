"""Pre-alignment: an image encoder and the layout encoder learn to agree before any diffusion training.

Three losses: an object's token and its image region agree (region-level InfoNCE), a layout and its image agree
(image-level), and the layout alone predicts what its regions coarsely look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fetalflex.anatomy.ontology import PLANES, STRUCTURES
from fetalflex.dataset import Cases
from fetalflex.errors import ModelError
from fetalflex.model.batches import (
    Moves,
    augment_with,
    batch_positions,
    cases_digest,
    first_weights,
    ignored_maps,
    learning_rate,
    seen_mean,
    step_random,
    to_signal,
)  # fmt: skip
from fetalflex.model.checkpoint import (
    digest_of,
    load_checkpoint,
    load_weights,
    read_config,
    save_checkpoint,
    save_module,
)  # fmt: skip
from fetalflex.model.condition import (
    NOT_ASKED,
    Condition,
    Dropping,
    center_vocabulary,
    condition_from_cases,
    drop_conditions,
    settle,
)  # fmt: skip
from fetalflex.model.layout_encoder import LayoutCode, LayoutEncoder, pool_regions
from fetalflex.params import Prealign

KIND = "fetalflex-aligner"
APPEARANCE = 8
_MOVES = Moves(flip=0.5, scale=0.08, shift=0.04)
_DROPPING = Dropping(layout=0.0, obj=0.1, to_box=0.4, modality=0.1)


class ImageEncoder(nn.Module):
    """Images [B, 1, S, S] to feature maps [B, width, S / 4, S / 4]."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, hidden, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(hidden, 2 * hidden, 4, 2, 1), nn.GroupNorm(8, 2 * hidden), nn.SiLU(),
            nn.Conv2d(2 * hidden, 2 * hidden, 3, 1, 1), nn.GroupNorm(8, 2 * hidden), nn.SiLU(),
            nn.Conv2d(2 * hidden, width, 3, 1, 2, dilation=2), nn.SiLU(),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature maps of images in [-1, 1]."""
        features: Tensor = self.layers(images)
        return features


class Aligner(nn.Module):
    """Image encoder, layout encoder and the heads that bring both into one space."""

    def __init__(self, params: Prealign, vocabulary: tuple[str, ...], patch: int) -> None:
        super().__init__()
        self.params, self.vocabulary, self.patch = params, vocabulary, patch
        width, hidden = params.embedding, params.hidden
        self.layout_encoder = LayoutEncoder(
            (len(STRUCTURES), len(PLANES), len(vocabulary)), width, patch, hidden, stem_channels=0
        )
        self.image_encoder = ImageEncoder(hidden, width)
        self.region_image, self.region_layout = nn.Linear(width * 4, width), nn.Linear(width, width)
        self.whole_image, self.whole_layout = nn.Linear(width * 5, width), nn.Linear(width, width)
        self.region_look = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, APPEARANCE**2))
        self.whole_look = nn.Sequential(
            nn.Conv2d(hidden + width, 2 * hidden, 3, padding=1), nn.SiLU(), nn.Conv2d(2 * hidden, 4, 1)
        )

    def image_features(self, images: npt.NDArray[np.uint8], batch: int = 32) -> npt.NDArray[np.float32]:
        """Return the embedding of each image uint8 [N, S, S]: float32 [N, embedding], of length 1."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), batch):
                chunk = images[start : start + batch]
                filled = np.concatenate([chunk, np.repeat(chunk[-1:], batch - len(chunk), 0)])
                parts.append(self.embed_images(self.image_encoder(to_signal(filled)))[: len(chunk)])
        empty = torch.zeros(0, self.params.embedding)
        result: npt.NDArray[np.float32] = torch.cat([empty, *parts]).numpy()
        return result

    def embed_images(self, features: Tensor) -> Tensor:
        """Return [B, D] from image features: their mean beside a 2 x 2 grid of means."""
        parts = torch.cat([features.mean((2, 3)), F.adaptive_avg_pool2d(features, 2).flatten(1)], 1)
        return F.normalize(self.whole_image(parts), dim=-1)

    def embed_regions(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return [B, K, D] from image features and boxes [B, K, 4]."""
        return F.normalize(self.region_image(pool_regions(features, boxes, 2).flatten(2)), dim=-1)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        config = {"kind": KIND, "params": self.params.model_dump(mode="json"), "vocabulary": self.vocabulary}
        save_module(folder, self, config | {"patch": self.patch})

    @staticmethod
    def load(folder: Path) -> Aligner:
        """Read an aligner. Raises: ModelError where it is missing, damaged, pickled or another model's."""
        config = read_config(folder, KIND)
        try:
            params = Prealign.model_validate_json(_json(config["params"]))
            aligner = Aligner(params, tuple(config["vocabulary"]), int(config["patch"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder}: config.json is none of this version ({error}); run prealign again") from error
        load_weights(aligner, folder / "model.safetensors")
        return aligner.eval()


@dataclass(frozen=True, eq=False)
class AlignStep:
    """One step of training, `step` counted from 1. `region_r1`, `image_r1`: rank-1 retrieval in the batch (NaN: empty).

    `trained` is the result, on the last step alone.
    """

    step: int
    loss: float
    region_r1: float
    image_r1: float
    appearance: float
    trained: Aligner | None = None


def train_aligner(
    cases: Cases, params: Prealign, patch: int, seed: int, state_dir: Path | None = None, threads: int = 1
) -> Iterator[AlignStep]:
    """Train an aligner on all given cases; resumes from `state_dir`. `patch` is the generator's.

    Source: InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), symmetric as in CLIP (Radford et al. 2021,
    arXiv 2103.00020).
    Raises: TooFewCasesError, ModelError for a checkpoint of another configuration.
    """
    torch.set_num_threads(threads)
    vocabulary = center_vocabulary([str(c) for c in cases.centers])
    with first_weights(step_random(seed, "aligner").initial_seed()):
        aligner = Aligner(params, vocabulary, patch)
    optimizer = torch.optim.AdamW(aligner.parameters(), lr=params.learning_rate, weight_decay=0.01)
    digest = digest_of(params, patch=patch, seed=seed, data=cases_digest(cases))
    done = load_checkpoint(state_dir, digest, aligner, optimizer)
    described, signal = condition_from_cases(cases, vocabulary), to_signal(cases.images)
    ignored = ignored_maps(cases)
    if done == params.steps:
        yield AlignStep(done, nan, nan, nan, nan, aligner.eval())
    for step in range(done, params.steps):
        random = step_random(seed, "align", step)
        positions = torch.from_numpy(batch_positions(seed, step, len(cases), params.batch_size))
        hidden = None if ignored is None else ignored[positions]
        images, maps, hidden = augment_with(signal[positions], described.maps[positions], hidden, _MOVES, random)
        whole = settle(replace(described.take(positions), maps=maps))
        asked = drop_conditions(whole, _DROPPING, random)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, params.steps, params.learning_rate, 20)
        loss, figures = _losses(aligner, images, asked, hidden)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(aligner.parameters(), 1.0)
        optimizer.step()
        last = step + 1 == params.steps
        if state_dir is not None and (last or (step + 1) % params.checkpoint_every == 0):
            save_checkpoint(state_dir, digest, step + 1, aligner, optimizer)
        yield AlignStep(step + 1, float(loss.detach()), *figures, aligner.eval() if last else None)


def retrieval(aligner: Aligner, cases: Cases, candidates: int = 16) -> dict[str, float]:
    """Return how often the right region or image is found first among `candidates` (chance: 1 / candidates).

    Regions compete with those of their own batch of cases. NaN where there is too little to compare.
    """
    described, signal = condition_from_cases(cases, aligner.vocabulary), to_signal(cases.images)
    sums: list[tuple[float, float]] = []
    with torch.no_grad():
        for start in range(0, len(cases) - candidates + 1, candidates):
            positions = torch.arange(start, start + candidates)
            _, figures = _losses(aligner, signal[positions], described.take(positions))
            sums.append(figures[:2])
    if not sums:
        return {"region_r1": float("nan"), "image_r1": float("nan")}
    regions = [r for r, _ in sums if np.isfinite(r)]
    return {
        "region_r1": float(np.mean(regions)) if regions else float("nan"),
        "image_r1": float(np.mean([i for _, i in sums])),
    }


def _losses(
    aligner: Aligner, images: Tensor, asked: Condition, ignored: Tensor | None = None
) -> tuple[Tensor, tuple[float, float, float]]:
    """Return the three losses' sum and (region rank-1, image rank-1, error of the look); see `train_aligner`.

    `ignored`: [B, 1, S, S], not 0 where a pixel is no target, or None.
    """
    code: LayoutCode = aligner.layout_encoder(asked)
    features = aligner.image_encoder(images)
    count, chosen = asked.kinds.shape[1], asked.kinds > NOT_ASKED
    whole, whole_r1 = _contrast(
        aligner.embed_images(features),
        F.normalize(aligner.whole_layout(code.overall), dim=-1),
        aligner.params.temperature,
    )
    coarse = F.pixel_unshuffle(F.avg_pool2d(images, 2), 2)  # [B, 4, S/4, S/4]: the image at half resolution
    side = coarse.shape[-1]
    spread = code.overall[..., None, None].expand(-1, -1, side, side)
    drawn = aligner.whole_look(torch.cat([F.adaptive_avg_pool2d(code.features, side), spread], 1))
    hidden = None if ignored is None else F.pixel_unshuffle(F.max_pool2d(ignored, 2), 2)
    drawing = _squared_error(drawn, coarse, hidden)
    loss, look = whole + drawing, drawing.detach()
    region_r1 = float("nan")
    if chosen.any():
        tokens = code.tokens[:, :count][chosen]
        regions = aligner.embed_regions(features, asked.boxes)[chosen]
        region, region_r1 = _contrast(
            regions, F.normalize(aligner.region_layout(tokens), dim=-1), aligner.params.temperature
        )
        seen = pool_regions(images, asked.boxes, APPEARANCE).flatten(2)[chosen]
        under = None if ignored is None else pool_regions(ignored, asked.boxes, APPEARANCE).flatten(2)[chosen]
        loss = loss + region + _squared_error(aligner.region_look(tokens), seen, under)
    return loss, (region_r1, whole_r1, float(look))


def _squared_error(guess: Tensor, target: Tensor, ignored: Tensor | None) -> Tensor:
    """Return the mean squared error of what counts; `ignored` has the shape of both, or is None."""
    if ignored is None:
        return F.mse_loss(guess, target)
    return seen_mean((guess - target).square(), ignored, tuple(range(guess.ndim)))


def _contrast(left: Tensor, right: Tensor, temperature: float) -> tuple[Tensor, float]:
    """Return symmetric InfoNCE of rows [N, D] that belong together, and the rank-1 rate from right to left."""
    scores = right @ left.T / temperature
    target = torch.arange(len(scores), device=scores.device)
    loss = (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
    return loss, float((scores.argmax(1) == target).float().mean())


def _json(value: object) -> str:
    import json

    return json.dumps(value)
