"""The one interface of image encoders, and any torch function behind it.

Batches have a constant, padded size, so that an image's features do not depend on its company and may be kept per
image. Nothing is downloaded unless the parameters name a model of the hub.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fetalflex.errors import ModelError

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Images uint8 [N, S, S] to features float32 [N, D]. `name` goes into reports and cache keys."""

    @property
    def name(self) -> str:
        """What the figures are made with, as reports name it."""
        ...

    def features(self, images: Images) -> Features:
        """Return float32 [N, D]."""
        ...


class CallableEncoder:
    """Any torch function from float32 [B, 1, S, S] in [-1, 1] to [B, D], such as the aligner's image encoder."""

    def __init__(
        self, name: str, function: Callable[[torch.Tensor], torch.Tensor], *, batch: int = 16, device: str = "cpu"
    ) -> None:
        self.name, self._function, self._batch, self._device = name, function, batch, device

    def features(self, images: Images) -> Features:
        """Return float32 [N, D]. Raises: ModelError where images or features have another form."""
        check_images(images)
        parts = [self._encode(images[i : i + self._batch]) for i in range(0, len(images), self._batch)]
        return np.concatenate(parts) if parts else np.zeros((0, self._encode(images).shape[1]), np.float32)

    def _encode(self, images: Images) -> Features:
        """Encode at most one batch, padded with black images to the constant size."""
        padded = np.zeros((self._batch, *images.shape[1:]), np.uint8)
        padded[: len(images)] = images
        x = torch.from_numpy(padded).to(self._device)[:, None].float() / 127.5 - 1  # [B, 1, S, S]
        with torch.no_grad():
            out = self._function(x)
        if out.ndim != 2 or len(out) != self._batch:
            raise ModelError(
                f"encoder {self.name}: features have shape {tuple(out.shape)}; expected [{self._batch}, D]"
            )
        return out[: len(images)].float().cpu().numpy()


def check_images(images: npt.NDArray[Any]) -> None:
    """Raises: ModelError unless images are uint8 [N, S, S]."""
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ModelError(f"images: expected uint8 [N, S, S]; found {images.dtype} {images.shape}")
