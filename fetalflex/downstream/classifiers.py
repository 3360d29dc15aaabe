"""Small classifiers from MONAI, random start, for one-channel images of 32 to 256 pixels on a CPU."""

from typing import Literal

import torch
from torch import nn

from fetalflex.imports import import_monai
from fetalflex.rng import derive_seed

_NETS = import_monai("monai.networks.nets")

Name = Literal["resnet", "densenet"]


def build_classifier(name: Name, classes: int, seed: int) -> nn.Module:
    """Return a classifier from float32 [B, 1, S, S] to logits [B, classes], with weights drawn from `seed`.

    resnet: ResNet-18 with an eighth of the width (0.18 M weights); densenet: three blocks of four, growth 12.
    Source: He et al. 2016 (arXiv 1512.03385); Huang et al. 2017 (arXiv 1608.06993).
    """
    network = _resnet(classes) if name == "resnet" else _densenet(classes)
    draw_weights(network, torch.Generator().manual_seed(derive_seed(seed, "weights", name)))
    return network


def _resnet(classes: int) -> nn.Module:
    network: nn.Module = _NETS.ResNet(
        block="basic",
        layers=[2, 2, 2, 2],
        block_inplanes=[8, 16, 32, 64],
        spatial_dims=2,
        n_input_channels=1,
        conv1_t_size=5,
        conv1_t_stride=2,
        num_classes=classes,
    )
    return network


def _densenet(classes: int) -> nn.Module:
    network: nn.Module = _NETS.DenseNet(
        spatial_dims=2, in_channels=1, out_channels=classes, init_features=16, growth_rate=12, block_config=(4, 4, 4)
    )
    return network


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew from `generator`.

    MONAI draws from torch's global generator, which other trainings of the same process share.
    Source: He et al. 2015 (arXiv 1502.01852), equation 10.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            # Small, so that the first steps learn features instead of undoing random logits.
            nn.init.normal_(module.weight, std=0.01, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
