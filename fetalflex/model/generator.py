"""The generator as a bundle on disk: the UNet and the layout encoder in diffusers' layout, and what belongs to both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel

from fetalflex.artifacts import write_json
from fetalflex.errors import ModelError
from fetalflex.model.checkpoint import load_weights, read_config
from fetalflex.model.denoiser import Denoiser
from fetalflex.model.layout_encoder import LayoutEncoder

KIND = "fetalflex-generator"
_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, eq=False)
class Generator:
    """A trained denoiser, the centers it knows (0: not stated), the side of its images, and its training's digest."""

    denoiser: Denoiser
    vocabulary: tuple[str, ...]
    size: int
    digest: str

    def save(self, folder: Path) -> None:
        """Write unet/, layout_encoder/ (config.json and safetensors, as diffusers does) and config.json."""
        self.denoiser.unet.save_pretrained(folder / "unet", safe_serialization=True)
        self.denoiser.layout_encoder.save_pretrained(folder / "layout_encoder", safe_serialization=True)
        config: dict[str, Any] = {"kind": KIND, "vocabulary": self.vocabulary, "image_size": self.size}
        write_json(folder / "config.json", config | {"patch": self.denoiser.patch, "digest": self.digest})

    @staticmethod
    def load(folder: Path) -> Generator:
        """Read a generator. Raises: ModelError where it is missing, damaged, pickled or another model's."""
        config = read_config(folder, KIND)
        parts: list[Any] = []
        for name, kind in (("unet", UNet2DConditionModel), ("layout_encoder", LayoutEncoder)):
            try:
                # Built from the configuration, then filled by us: from_pretrained would also open pickles.
                parts.append(kind.from_config(kind.load_config(folder / name)))
            except (OSError, ValueError, TypeError) as error:
                raise ModelError(f"{folder / name}: no readable configuration ({error}); run train again") from error
            load_weights(parts[-1], folder / name / _WEIGHTS)
        denoiser = Denoiser(parts[0], parts[1])
        return Generator(denoiser.eval(), tuple(config["vocabulary"]), int(config["image_size"]), config["digest"])
