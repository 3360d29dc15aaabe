"""Features of two sets, and the wrapping that torchmetrics takes."""

import numpy as np
import torch

from fetalflex.rng import generator


class Identity(torch.nn.Module):
    """Takes features for images, so that torchmetrics measures what we measure."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def pair(n=60, m=60, d=16, shift=0.4, seed=0):
    rng = generator(seed)
    return rng.normal(size=(n, d)), rng.normal(shift, 1.2, size=(m, d)) @ np.diag(np.linspace(0.5, 1.5, d))


def as_images(x):
    return torch.from_numpy(x)[:, :, None, None].double()
