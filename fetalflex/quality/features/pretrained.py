"""Any vision model of transformers as an encoder (DINOv2, a RadImageNet ResNet), from a folder or the hub."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fetalflex.artifacts import read_json, tree_sha256
from fetalflex.errors import ModelError
from fetalflex.quality.features.encoder import CallableEncoder
from fetalflex.quality.features.places import model_folder

_MEAN, _STD, _SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224


class PretrainedEncoder(CallableEncoder):
    """The pooled output of a vision model, or where it has none its class token.

    `place`: `folder:PATH` in transformers' layout with safetensors, or `hub:OWNER/NAME@REVISION`. Grey is repeated to
    three channels, scaled (bilinear) and normalised as `preprocessor_config.json` says, else as for ImageNet at 224 px.
    Raises: ModelError where the model is missing, pickled, or is no vision model.
    """

    def __init__(self, place: str, *, batch: int = 16, device: str = "cpu") -> None:
        folder = _folder(place)
        model = _load(folder).to(device)
        mean, std, side = _preprocessing(folder)
        centre, spread = (torch.tensor(v, device=device)[None, :, None, None] for v in (mean, std))

        def forward(x: torch.Tensor) -> torch.Tensor:
            large = functional.interpolate((x + 1) / 2, (side, side), mode="bilinear", align_corners=False)
            out = model(pixel_values=(large.expand(-1, 3, -1, -1) - centre) / spread)
            pooled = getattr(out, "pooler_output", None)
            if pooled is None:
                pooled = out.last_hidden_state[:, 0] if out.last_hidden_state.ndim == 3 else out.last_hidden_state
            return pooled.flatten(2).mean(2) if pooled.ndim == 4 else pooled.flatten(1)

        super().__init__(f"{folder.name}-{tree_sha256([folder])[:12]}", forward, batch=batch, device=device)


def _folder(place: str) -> Path:
    folder = model_folder(place, "encoder")
    if not (folder / "config.json").is_file():
        raise ModelError(f"encoder {place!r}: no config.json; expected a folder in transformers' layout")
    return folder


def _load(folder: Path) -> Any:
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"encoder {folder.name}: transformers cannot load it ({' '.join(str(error).split())})"
        ) from error
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise ModelError(f"encoder {folder.name}: it is no vision model; expected one that takes pixel_values")
    return model.eval()


def _preprocessing(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    path = folder / "preprocessor_config.json"
    told: dict[str, Any] = read_json(path) if path.is_file() else {}
    size = told.get("crop_size") or told.get("size") or read_json(folder / "config.json").get("image_size") or _SIDE
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or _SIDE
    return tuple(told.get("image_mean") or _MEAN), tuple(told.get("image_std") or _STD), int(size)
