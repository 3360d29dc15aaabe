"""The six architectures in three sizes, from MONAI and transformers, for grey images of 32 to 256 pixels.

`full` is each network as published (ResNet-50, DenseNet-121, EfficientNet-B0, ConvNeXt-T, ViT-S, Swin-T); `small` and
`tiny` are the same architectures, narrower and shallower, for a CPU. Dropout and stochastic depth are off: they draw
from torch's global generator, which other trainings of the same process share.
Source: He et al. 2016 (arXiv 1512.03385); Huang et al. 2017 (1608.06993); Tan & Le 2019 (1905.11946); Liu et al. 2022
(2201.03545); Dosovitskiy et al. 2021 (2010.11929), its small form Touvron et al. 2021 (2012.12877); Liu et al. 2021
(2103.14030).
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    EfficientNetConfig,
    EfficientNetModel,
    ResNetConfig,
    ResNetModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
)

from fetalflex.imports import import_monai
from fetalflex.params_evaluate import ModelName

_NETS = import_monai("monai.networks.nets")

Size = Literal["tiny", "small", "full"]
_RESNET: dict[Size, dict[str, Any]] = {
    "tiny": {"embedding_size": 8, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "small": {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [2, 2, 2, 2], "layer_type": "basic"},
    "full": {},
}
_DENSENET: dict[Size, dict[str, Any]] = {
    "tiny": {"init_features": 16, "growth_rate": 8, "block_config": (2, 2, 2)},
    "small": {"init_features": 24, "growth_rate": 12, "block_config": (4, 4, 4)},
    "full": {},
}
# Widths as published (the last, `hidden_dim`, too) times the first, numbers of blocks times the second, rounded up.
_EFFICIENTNET: dict[Size, dict[str, Any]] = {
    "tiny": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
    "small": {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640},
    "full": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
}
_CONVNEXT: dict[Size, dict[str, Any]] = {
    "tiny": {"hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 2, 1]},
    "small": {"hidden_sizes": [32, 64, 96, 160], "depths": [2, 2, 4, 2]},
    "full": {},
}
_VIT: dict[Size, tuple[int, int, int]] = {"tiny": (48, 3, 4), "small": (128, 6, 4), "full": (384, 12, 6)}
_SWIN: dict[Size, dict[str, Any]] = {
    "tiny": {"embed_dim": 16, "depths": [1, 1, 1], "num_heads": [2, 4, 8]},
    "small": {"embed_dim": 32, "depths": [2, 2, 4], "num_heads": [2, 4, 8]},
    "full": {},
}


def make_body(name: ModelName, size: Size, side: int) -> nn.Module:
    """Return a network without its classifying head; its weights are the libraries' own and to be drawn anew."""
    makers: dict[str, Callable[[Size, int], nn.Module]] = {
        "resnet": _resnet, "densenet": _densenet, "efficientnet": _efficientnet,
        "convnext": _convnext, "vit": _vit, "swin": _swin,
    }  # fmt: skip
    return makers[name](size, side)


def _resnet(size: Size, _side: int) -> nn.Module:
    return ResNetModel(ResNetConfig(num_channels=1, **_RESNET[size]))


def _densenet(size: Size, _side: int) -> nn.Module:
    settings = {"init_features": 64, "growth_rate": 32, "block_config": (6, 12, 24, 16)} | _DENSENET[size]
    features: nn.Module = _NETS.DenseNet(spatial_dims=2, in_channels=1, out_channels=2, **settings).features
    return features


def _efficientnet(size: Size, side: int) -> nn.Module:
    # transformers hands batch_norm_momentum to torch, where 0.99 would keep the last batch alone.
    fixed = {"batch_norm_momentum": 0.1, "dropout_rate": 0.0, "drop_connect_rate": 0.0}
    return EfficientNetModel(EfficientNetConfig(num_channels=1, image_size=side, **fixed, **_EFFICIENTNET[size]))


def _convnext(size: Size, side: int) -> nn.Module:
    # The published layer scale of 1e-6 needs hundreds of epochs to open; without it short trainings learn.
    return ConvNextModel(ConvNextConfig(num_channels=1, image_size=side, layer_scale_init_value=0.0, **_CONVNEXT[size]))


def _vit(size: Size, side: int) -> nn.Module:
    hidden, layers, heads = _VIT[size]
    config = ViTConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * hidden,
        image_size=side, patch_size=16 if side >= 224 else side // 8, num_channels=1,
    )  # fmt: skip
    return ViTModel(config, add_pooling_layer=False)


def _swin(size: Size, side: int) -> nn.Module:
    window, stages = (7 if side >= 224 else 4), len(_SWIN[size].get("depths", (2, 2, 6, 2)))
    patch = min(4, max(1, side // (window << (stages - 1))))  # the last stage's map is one window at least
    config = SwinConfig(
        image_size=side, patch_size=patch, num_channels=1, window_size=window, drop_path_rate=0.0, **_SWIN[size]
    )
    return SwinModel(config, add_pooling_layer=False)
