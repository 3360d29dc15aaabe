"""A classifier: one of the six bodies, pooled, and a linear head; random start from a seed, or pretrained weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fetalflex.downstream.models.architectures import Size, make_body
from fetalflex.errors import ModelError
from fetalflex.params_evaluate import ModelName
from fetalflex.rng import derive_seed

# Networks of layer norms and attention take a smaller rate than those of batch norms.
RATE_SCALE: dict[ModelName, float] = {"convnext": 0.25, "vit": 0.1, "swin": 0.1}
HUB = "hub:"


class Classifier(nn.Module):
    """Float32 [B, 1, S, S] in about [-1, 1] to logits [B, classes].

    `side`: images are scaled to it (pretrained transformers know one size), None: taken as they are; `channels`: grey
    is repeated.
    """

    def __init__(self, body: nn.Module, classes: int, side: int | None = None, channels: int = 1) -> None:
        """Find the body's width with one pass of a blank image of 32 pixels or of `side`."""
        super().__init__()
        self.body, self.side, self.channels = body, side, channels
        self.head = nn.Linear(_width(body), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, classes]."""
        logits: Tensor = self.head(self.embed(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """Return the pooled features [B, D] that the head reads."""
        return self.maps(x).mean((2, 3))

    def maps(self, x: Tensor) -> Tensor:
        """Return the last feature maps [B, D, h, w]."""
        if self.side is not None and x.shape[-1] != self.side:
            x = interpolate(x, size=(self.side, self.side), mode="bilinear", align_corners=False)
        found = self.body(x.expand(-1, self.channels, -1, -1))
        values: Tensor = found if isinstance(found, Tensor) else found.last_hidden_state
        return torch.relu(values) if isinstance(found, Tensor) else _as_maps(values)


def build_classifier(
    name: ModelName, size: Size, classes: int, side: int, seed: int, *, pretrained: str | None = None
) -> Classifier:
    """Return a classifier for images of `side` pixels with weights drawn from `seed`.

    `pretrained`: a folder in transformers' layout, or `hub:OWNER/NAME`, whose body replaces the random one; the head is
    drawn either way. Raises: ModelError where there are no safetensors of that architecture.
    """
    if pretrained is None:
        network = Classifier(make_body(name, size, side), classes)
    else:
        body = _pretrained(name, pretrained)
        network = Classifier(body, classes, getattr(body.config, "image_size", None), body.config.num_channels)
    drawn = network if pretrained is None else network.head
    draw_weights(drawn, torch.Generator().manual_seed(derive_seed(seed, "weights", name)))
    return network


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew from `generator`: libraries draw from torch's global one, which trainings share.

    Norms start as the identity, biases at zero, all else of two and more dimensions at random.
    Source: He et al. 2015 (arXiv 1502.01852), equation 10, for convolutions; LeCun et al. 1998, Efficient BackProp,
    equation 16, for a body's linear layers: the transformers' 0.02 suits widths of 768 and more, and leaves the
    branches of narrow ones all but silent. 0.02 for the head, which starts undecided, for tokens, positions and such.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    spread: dict[int, float] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            spread[id(module.weight)] = (2 / module.weight[0].numel()) ** 0.5
        elif isinstance(module, nn.Linear) and name.startswith("body."):
            spread[id(module.weight)] = module.in_features**-0.5
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim >= 2:
                weight.normal_(0, spread.get(id(weight), 0.02), generator=generator)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)


def _as_maps(values: Tensor) -> Tensor:
    """Return tokens [B, T (+ 1 for the class), D] as maps; maps pass."""
    if values.ndim == 4:
        return values
    side = int(values.shape[1] ** 0.5)
    tokens = values[:, values.shape[1] - side * side :]
    return tokens.transpose(1, 2).reshape(len(values), -1, side, side)


def _width(body: nn.Module) -> int:
    config: Any = getattr(body, "config", None)
    if config is not None:
        named = (getattr(config, name, None) for name in ("hidden_dim", "hidden_size"))
        return int(next((width for width in named if width), None) or config.hidden_sizes[-1])
    norm = [m for m in body.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    return int(norm.num_features)


def _pretrained(name: ModelName, source: str) -> Any:
    from transformers import ConvNextModel, EfficientNetModel, ResNetModel, SwinModel, ViTModel

    kinds: dict[str, Any] = {
        "resnet": ResNetModel, "efficientnet": EfficientNetModel, "convnext": ConvNextModel, "vit": ViTModel,
        "swin": SwinModel,
    }  # fmt: skip
    hub = source.startswith(HUB)
    if not hub and not (Path(source) / "config.json").is_file():
        raise ModelError(f"{name}: {source} holds no config.json; expected a folder in transformers' layout")
    extra = {} if name in ("resnet", "convnext", "efficientnet") else {"add_pooling_layer": False}
    try:
        body = kinds[name].from_pretrained(
            source.removeprefix(HUB), local_files_only=not hub, use_safetensors=True, **extra
        )
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"{name}: no pretrained weights in {source} ({line}); expected safetensors") from error
    if body.config.model_type != {"convnext": "convnext"}.get(name, name):
        raise ModelError(f"{name}: {source} is a {body.config.model_type}; expected a {name}")
    return body
