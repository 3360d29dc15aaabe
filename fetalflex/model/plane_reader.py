"""Which plane an image shows, with a confidence that can be believed: a linear reader of the aligner's feature maps.

The aligner has learned to tell images apart by their layouts, so one linear layer suffices; it reads the encoder's
maps, since the embedding, made for layouts, has lost some of what tells planes apart. Its temperature is fitted on
patients that neither the aligner nor the layer has seen, or it would be too sure.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import save_file
from torch import Tensor, nn

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.artifacts import atomic, read_json, write_json
from fetalflex.dataset import Cases
from fetalflex.errors import ArtifactError, ModelError
from fetalflex.model.aligner import Aligner
from fetalflex.model.batches import to_signal
from fetalflex.model.checkpoint import read_tensors
from fetalflex.params import Prealign

KIND = "fetalflex-plane-reader"
_WEIGHTS, _CONFIG = "planes.safetensors", "planes.json"
_RIDGE, _ITERATIONS, _FEWEST = 3e-2, 300, 10
_POOLED = 1 + 1 + 4  # of each map: mean, maximum, and a 2 x 2 grid of means
_BATCH = 32
# "brain" and "thorax" say that the plane is not stated: each may be one of these.
OPEN_PLANES = {
    "brain": ("transventricular", "transthalamic", "transcerebellar"),
    "thorax": ("four-chamber",), "abdomen": ("kidneys",), "face": ("face-lips",),
}  # fmt: skip


class PlaneReader(ModelMixin, ConfigMixin):
    """The aligner with a linear layer on its pooled feature maps. `align`: the aligner's parameters as JSON's types."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, align: dict[str, Any], vocabulary: tuple[str, ...], patch: int, planes: tuple[str, ...]) -> None:
        super().__init__()
        params = Prealign.model_validate_json(json.dumps(align))
        self.aligner = Aligner(params, tuple(vocabulary), patch)
        self.head = nn.Linear(_POOLED * params.embedding, len(planes))
        self.temperature = nn.Parameter(torch.ones(()), requires_grad=False)

    @staticmethod
    def around(aligner: Aligner, planes: tuple[str, ...]) -> PlaneReader:
        """Return a reader of that aligner whose layer is still empty."""
        with torch.device("meta"):  # draws no random number
            reader = PlaneReader(aligner.params.model_dump(mode="json"), aligner.vocabulary, aligner.patch, planes)
        reader.aligner = aligner
        reader.head.to_empty(device="cpu")
        nn.init.zeros_(reader.head.weight)
        nn.init.zeros_(reader.head.bias)
        reader.temperature = nn.Parameter(torch.ones(()), requires_grad=False)
        return reader.eval()

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes that it can tell apart."""
        return tuple(self.config.planes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [N, P] for features [N, D]."""
        logits: Tensor = self.head(features) / self.temperature
        return logits

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return the probability of each plane for images uint8 [N, S, S]: float64 [N, P], rows sum to 1."""
        features = _features(self.aligner, images)
        with torch.no_grad():
            chances: npt.NDArray[np.float64] = self(features.to(self.device)).double().softmax(1).cpu().numpy()
        return chances

    def read(self, image: npt.NDArray[np.uint8]) -> tuple[str, float]:
        """Return the likeliest plane of one image uint8 [S, S] and its probability."""
        chances = self.predict(image[None])[0]
        best = int(chances.argmax())
        return self.planes[best], float(chances[best])

    def save_head(self, folder: Path) -> None:
        """Write the layer beside its aligner, which is saved already: planes.json and planes.safetensors."""
        tensors = {"weight": self.head.weight, "bias": self.head.bias, "temperature": self.temperature}
        with atomic(folder / _WEIGHTS) as partial:
            save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, partial)
        write_json(folder / _CONFIG, {"kind": KIND, "planes": self.planes})

    @staticmethod
    def load_beside(folder: Path) -> PlaneReader | None:
        """Read an aligner with its layer; None where the aligner has none. Raises: ModelError as `Aligner.load`."""
        aligner = Aligner.load(folder)
        if not (folder / _CONFIG).is_file():
            return None
        tensors, _ = read_tensors(folder / _WEIGHTS)
        try:
            reader = PlaneReader.around(aligner, tuple(read_json(folder / _CONFIG)["planes"]))
            reader.head.load_state_dict({k: tensors[k] for k in ("weight", "bias")})
            reader.temperature.data.copy_(tensors["temperature"])
        except (ArtifactError, KeyError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"{folder / _WEIGHTS}: is no layer of this aligner ({error}); run prealign again"
            ) from error
        return reader


def compatible(one: str, other: str) -> bool:
    """Return whether two names of planes may mean the same plane: equal, or one of them leaves it open."""
    return one == other or "unknown" in (one, other) or other in OPEN_PLANES.get(one, ()) or one in OPEN_PLANES.get(
        other, ()
    )  # fmt: skip


def fit_plane_reader(aligner: Aligner, cases: Cases, others: Cases) -> PlaneReader | None:
    """Fit a reader on cases whose plane is stated, its temperature on those of `others`: other patients.

    None where fewer than two planes are stated. Multinomial logistic regression with a small ridge, from zero weights:
    nothing is drawn at random. Where `others` has fewer than ten such cases the temperature stays 1.
    Source: temperature scaling, Guo et al. 2017 (arXiv 1706.04599), section 4.2.
    """
    stated = cases.take(np.nonzero(cases.planes > 0)[0])
    numbers = np.unique(stated.planes)
    if len(numbers) < 2:
        return None
    reader = PlaneReader.around(aligner, tuple(PLANE_NAMES[int(n)] for n in numbers))
    features, target = _embedded(aligner, stated, numbers)
    _fit_head(reader.head, features, target)
    held = others.take(np.nonzero(np.isin(others.planes, numbers))[0])
    if len(held) >= _FEWEST:
        reader.temperature.data.fill_(_fit_temperature(reader.head, *_embedded(aligner, held, numbers)))
    return reader


def plane_figures(reader: PlaneReader, cases: Cases, bins: int = 10) -> dict[str, float]:
    """Return accuracy, mean confidence and expected calibration error over cases of the reader's planes; NaN if none.

    Source: expected calibration error, Naeini et al. 2015 (AAAI), with equal bins of the confidence.
    """
    known = cases.take(np.nonzero(np.isin(cases.planes, [PLANE_NAMES.index(p) for p in reader.planes]))[0])
    if not len(known):
        return {"n": 0.0, "accuracy": float("nan"), "confidence": float("nan"), "ece": float("nan")}
    chances = reader.predict(known.images)
    right = np.array([reader.planes[int(i)] for i in chances.argmax(1)]) == np.array(PLANE_NAMES)[known.planes]
    sure = chances.max(1)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(right[place == b].mean() - sure[place == b].mean()) * (place == b).mean() for b in np.unique(place)]
    return {
        "n": float(len(known)), "accuracy": float(right.mean()), "confidence": float(sure.mean()),
        "ece": float(np.sum(gaps)),
    }  # fmt: skip


def _embedded(aligner: Aligner, cases: Cases, numbers: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    features = _features(aligner, cases.images)
    return features, torch.from_numpy(np.searchsorted(numbers, cases.planes))


@torch.no_grad()
def _features(aligner: Aligner, images: npt.NDArray[np.uint8]) -> Tensor:
    """Return float32 [N, D] of images uint8 [N, S, S]; constant, padded batches, so company does not matter."""
    device = next(aligner.parameters()).device
    parts = [torch.zeros(0, _POOLED * aligner.params.embedding)]
    for start in range(0, len(images), _BATCH):
        chunk = images[start : start + _BATCH]
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], _BATCH - len(chunk), 0)])
        maps = aligner.image_encoder(to_signal(filled).to(device))
        pooled = [maps.mean((2, 3)), maps.amax((2, 3)), F.adaptive_avg_pool2d(maps, 2).flatten(1)]
        parts.append(torch.cat(pooled, 1)[: len(chunk)].cpu())
    return torch.cat(parts)


def _fit_head(head: nn.Linear, features: Tensor, target: Tensor) -> None:
    """Minimise cross-entropy and ridge over standardised features in double precision; convex: any start will do."""
    weight = torch.zeros(*head.weight.shape, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(head.bias), dtype=torch.float64, requires_grad=True)
    mean, std = features.double().mean(0), features.double().std(0) + 1e-6
    wide = (features.double() - mean) / std
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(wide @ weight.T + bias, target) + _RIDGE * weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    scaled = weight.detach() / std
    head.weight.data.copy_(scaled)
    head.bias.data.copy_(bias.detach() - scaled @ mean)


def _fit_temperature(head: nn.Linear, features: Tensor, target: Tensor) -> float:
    """Return the temperature of least cross-entropy among 0.1 .. 10, on a grid of 2 %: one number needs no more."""
    with torch.no_grad():
        logits = head(features).double()
        grid = torch.logspace(-1, 1, 233, dtype=torch.float64)
        losses = torch.stack([F.cross_entropy(logits / t, target) for t in grid])
    return float(grid[int(losses.argmin())])
