"""The aligner: an image encoder, the layout encoder, and the heads that bring both into one space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fetalflex.anatomy.ontology import PLANES, STRUCTURES
from fetalflex.errors import ModelError
from fetalflex.model.batches import to_signal
from fetalflex.model.checkpoint import load_weights, read_config, save_module
from fetalflex.model.layout_encoder import LayoutEncoder, pool_regions
from fetalflex.params import Prealign

KIND = "fetalflex-aligner"
APPEARANCE = 8
# What aligners were before these could be chosen.
_FORMER: dict[str, Any] = {"region_grid": 2, "region_margin": 0.0, "image_blocks": 0}
_STRIDED = 8


class ImageEncoder(nn.Module):
    """Images [B, 1, S, S] to feature maps [B, width, S / 4, S / 4]; `blocks` residual blocks widen what each sees."""

    def __init__(self, hidden: int, width: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, hidden, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(hidden, 2 * hidden, 4, 2, 1), nn.GroupNorm(8, 2 * hidden), nn.SiLU(),
            nn.Conv2d(2 * hidden, 2 * hidden, 3, 1, 1), nn.GroupNorm(8, 2 * hidden), nn.SiLU(),
            nn.Conv2d(2 * hidden, width, 3, 1, 2, dilation=2), nn.SiLU(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, 2 * hidden), nn.SiLU(), nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=d, dilation=d),
                nn.SiLU(), nn.Conv2d(2 * hidden, 2 * hidden, 1),
            )
            for d in (2**i for i in range(blocks))
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature maps of images in [-1, 1]."""
        features: Tensor = self.layers[:_STRIDED](images)
        for block in self.blocks:
            features = features + block(features)
        result: Tensor = self.layers[_STRIDED:](features)
        return result


class Aligner(nn.Module):
    """Image encoder, layout encoder and the heads that bring both into one space."""

    def __init__(self, params: Prealign, vocabulary: tuple[str, ...], patch: int) -> None:
        super().__init__()
        self.params, self.vocabulary, self.patch = params, vocabulary, patch
        width, hidden = params.embedding, params.hidden
        self.layout_encoder = LayoutEncoder(
            (len(STRUCTURES), len(PLANES), len(vocabulary)), width, patch, hidden, stem_channels=0
        )
        self.image_encoder = ImageEncoder(hidden, width, params.image_blocks)
        self.region_image = nn.Linear(width * params.region_grid**2, width)
        self.region_layout = nn.Linear(width, width)
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
        """Return [B, K, D] from image features and boxes [B, K, 4], which are grown by the margin."""
        low, high = boxes[..., :2], boxes[..., 2:]
        margin = (high - low) * self.params.region_margin
        grown = torch.cat([low - margin, high + margin], -1)
        return F.normalize(self.region_image(pool_regions(features, grown, self.params.region_grid).flatten(2)), dim=-1)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Return [..., D] from the layout encoder's object tokens."""
        return F.normalize(self.region_layout(tokens), dim=-1)

    def embed_layouts(self, overall: Tensor) -> Tensor:
        """Return [B, D] from the layout encoder's code of whole layouts."""
        return F.normalize(self.whole_layout(overall), dim=-1)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        config = {"kind": KIND, "params": self.params.model_dump(mode="json"), "vocabulary": self.vocabulary}
        save_module(folder, self, config | {"patch": self.patch})

    @staticmethod
    def load(folder: Path) -> Aligner:
        """Read an aligner. Raises: ModelError where it is missing, damaged, pickled or another model's."""
        config = read_config(folder, KIND)
        try:
            params = Prealign.model_validate_json(json.dumps(_FORMER | config["params"]))
            aligner = Aligner(params, tuple(config["vocabulary"]), int(config["patch"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder}: config.json is none of this version ({error}); run prealign again") from error
        load_weights(aligner, folder / "model.safetensors")
        return aligner.eval()
