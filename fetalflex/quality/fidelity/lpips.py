"""LPIPS of two images: how far apart do they look, in features of VGG-16 weighted by what people said of pairs?

Built here, since torchvision is not to be had beside the CPU build: the thirteen convolutions take their weights from a
folder or the hub that the parameters name, the weights of the five distances lie in torchmetrics' package.
Source: Zhang et al. 2018 (arXiv 1801.03924), equation 1; version 0.1, VGG-16, as in torchmetrics.
"""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fetalflex.errors import ModelError
from fetalflex.quality.bootstrap import Array, Floats
from fetalflex.quality.features.encoder import CallableEncoder, Encoder, Images
from fetalflex.quality.features.places import model_folder

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels; pooled in between
LEAST_SIDE = 16  # pixels: the four poolings leave one
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet, for images in [-1, 1]
_PREFIX, _BATCH = "features.", 8
_EPSILON = 1e-8


class Vgg16(nn.Sequential):
    """The layers of VGG-16 up to relu5_3, in torchvision's order, so that its names of weights fit."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for number, block in enumerate(BLOCKS):
            layers += [nn.MaxPool2d(2)] if number else []
            for width in block:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        super().__init__(*layers)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of images [B, 3, H, W]."""
        found = []
        for layer in self:
            if isinstance(layer, nn.MaxPool2d):
                found.append(x)
            x = layer(x)
        return [*found, x]


class LpipsEncoder(CallableEncoder):
    """LPIPS as an encoder of pairs, one image above the other: uint8 [P, 2S, S] to float32 [P, 1], 0 where equal.

    So distances are kept pair by pair as features are image by image (`features.cache`). S: at least 16 pixels. Grey is
    repeated to three channels in [-1, 1]; nothing is resized. `place`: `folder:PATH` or `hub:OWNER/NAME@REVISION` with
    VGG-16 in safetensors under torchvision's names (`features.0.weight` ...), such as timm's vgg16.tv_in1k.
    Raises: ModelError where weights are missing or of another network.
    """

    def __init__(self, place: str, *, batch: int = _BATCH, device: str = "cpu") -> None:
        weights, linear = _backbone(place), _linear(lpips_weights())
        network = Vgg16()
        network.load_state_dict(weights)
        network.requires_grad_(False).eval().to(device)
        shift, scale = (torch.tensor(v, device=device)[None, :, None, None] for v in (_SHIFT, _SCALE))
        linear = [w.to(device) for w in linear]

        def forward(x: Tensor) -> Tensor:  # [B, 1, 2S, S] in [-1, 1]
            side = x.shape[-1]
            if side < LEAST_SIDE or x.shape[-2] != 2 * side:
                raise ModelError(
                    f"LPIPS: found {x.shape[-2]} x {side} pixels; expected two squares of at least {LEAST_SIDE}, one "
                    "above the other"
                )
            both = torch.cat([x[..., :side, :], x[..., side:, :]])  # [2B, 1, S, S]
            scaled = ((both - shift) / scale).contiguous(memory_format=torch.channels_last)  # a quarter faster on a CPU
            maps = network.maps(scaled)
            return torch.stack([_distance(m, w) for m, w in zip(maps, linear, strict=True)]).sum(0)[:, None]

        super().__init__(f"lpips-vgg16-{_digest(weights, linear)}", forward, batch=batch, device=device)


def lpips(encoder: Encoder, images: Images, pairs: Array) -> Floats:
    """Return the LPIPS of pairs [P, 2] of images uint8 [N, S, S] by an `LpipsEncoder`: float64 [P]."""
    stacked = np.concatenate([images[pairs[:, 0]], images[pairs[:, 1]]], axis=1)  # [P, 2S, S]
    return encoder.features(stacked)[:, 0].astype(np.float64)


def check_lpips(place: str) -> None:
    """Look whether the weights are there, without reading them. Raises: ModelError."""
    _listed(place)
    lpips_weights()


def lpips_weights() -> Path:
    """Return the file of the five distances' weights inside torchmetrics, which is not imported (it takes seconds).

    Raises: ModelError where the package does not hold it.
    """
    spec = find_spec("torchmetrics")
    path = Path(spec.origin).parent / "functional/image/lpips_models/vgg.pth" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError(
            "LPIPS weights are missing: expected functional/image/lpips_models/vgg.pth in the package torchmetrics; "
            "install it again, or set score.lpips to null"
        )
    return path


def _distance(maps: Tensor, weights: Tensor) -> Tensor:
    """Equation 1 at one layer: maps [2B, C, H, W] of both images, weights [C]; returns [B]."""
    unit = maps / torch.sqrt(_EPSILON + maps.square().sum(1, keepdim=True))
    one, other = unit.chunk(2)
    return ((one - other).square() * weights[None, :, None, None]).sum(1).mean((1, 2))


def _linear(path: Path) -> list[Tensor]:
    try:  # weights_only: tensors alone, no code
        kept = torch.load(path, map_location="cpu", weights_only=True)
        found = [kept[f"lin{number}.model.1.weight"].reshape(-1) for number in range(len(BLOCKS))]
    except Exception as error:  # torch raises bare ones, too
        raise ModelError(f"LPIPS weights {path.name}: cannot be read ({type(error).__name__})") from error
    widths = [len(w) for w in found]
    if widths != [block[-1] for block in BLOCKS]:
        raise ModelError(f"LPIPS weights {path.name}: found {widths} channels; expected those of VGG-16")
    return found


def _backbone(place: str) -> dict[str, Tensor]:
    found = {}
    for name, path in _listed(place).items():
        with safe_open(path, "pt") as stream:
            found[name] = stream.get_tensor(_PREFIX + name).float()
    return found


def _listed(place: str) -> dict[str, Path]:
    """Return the file that holds each of VGG-16's weights, by its headers alone."""
    with torch.device("meta"):
        expected = {name: list(value.shape) for name, value in Vgg16().state_dict().items()}
    found: dict[str, tuple[Path, list[int]]] = {}
    for path in sorted(model_folder(place, "score.lpips").glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as stream:
                for key in stream.keys():  # noqa: SIM118 (no mapping)
                    name = key.removeprefix(_PREFIX)
                    if key.startswith(_PREFIX) and name in expected:
                        found[name] = (path, list(stream.get_slice(key).get_shape()))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"score.lpips {place!r}: {path.name} is damaged ({error}); fetch it again") from error
    for name, shape in expected.items():
        if name not in found or found[name][1] != shape:
            told = f"shape {found[name][1]}" if name in found else "nothing"
            raise ModelError(
                f"score.lpips {place!r}: found {told} for {_PREFIX}{name}; expected {shape}, as in VGG-16 without "
                "batch normalisation under torchvision's names (timm's vgg16.tv_in1k)"
            )
    return {name: path for name, (path, _) in found.items()}


def _digest(weights: Mapping[str, Tensor], linear: list[Tensor]) -> str:
    """Return a name of these weights, under which distances are kept."""
    digest = hashlib.sha256()
    for value in (*(weights[name] for name in sorted(weights)), *linear):
        digest.update(np.ascontiguousarray(value.cpu().numpy()).tobytes())
    return digest.hexdigest()[:12]
