"""VGG-16 of random weights in a folder, as a user would have the pretrained one."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fetalflex.quality.fidelity.lpips import Vgg16


def random_weights() -> dict[str, Tensor]:
    """Weights under torchvision's names, large enough that the deepest maps are not all zero."""
    torch.manual_seed(3)
    network = Vgg16()
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.1)
    return {f"features.{name}": value for name, value in network.state_dict().items()}


def write_backbone(folder: Path, weights: dict[str, Tensor] | None = None) -> Path:
    """Write a folder with `model.safetensors` and return it; a classifier's weights lie in it, too."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file((weights or random_weights()) | {"head.fc.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    return folder
