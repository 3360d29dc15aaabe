"""The generator as a bundle on disk: the networks in diffusers' layout, and what belongs to all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel

from fetalflex.artifacts import write_json
from fetalflex.errors import ModelError
from fetalflex.model.checkpoint import SHARD_BYTES, load_weights, read_config, save_module
from fetalflex.model.denoiser import Backbone, Denoiser
from fetalflex.model.layout_encoder import LayoutEncoder
from fetalflex.model.sectors import Sectors

KIND = "fetalflex-generator"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_TOKENS = "fetalflex-tokens"


@dataclass(frozen=True, eq=False)
class Generator:
    """A trained denoiser, the centers it knows (0: not stated), the side of its images, and its training's digest.

    `sectors`: the fields of view that its centers' training images have.
    """

    denoiser: Backbone
    vocabulary: tuple[str, ...]
    size: int
    digest: str
    sectors: Sectors = field(default_factory=Sectors)

    def save(self, folder: Path) -> None:
        """Write config.json and the trained networks as diffusers does, in safetensors of at most 16 MB.

        unet/ and layout_encoder/; with a pretrained base layout_encoder/ and tokens/, and in config.json the base's
        name and hash: its own weights are not copied.
        """
        config: dict[str, Any] = {"kind": KIND, "vocabulary": self.vocabulary, "image_size": self.size}
        config |= {"patch": self.denoiser.patch, "digest": self.digest, "sectors": self.sectors.written()}
        _save(self.denoiser.layout_encoder, folder / "layout_encoder")
        if isinstance(self.denoiser, Denoiser):
            _save(self.denoiser.unet, folder / "unet")
        else:
            config |= _save_adapter(self.denoiser, folder)
        write_json(folder / "config.json", config)

    @staticmethod
    def load(folder: Path) -> Generator:
        """Read a generator; a pretrained base is looked for under the name that its parameters gave.

        Raises: ModelError where it is missing, damaged, pickled or another model's, or where the base is another.
        """
        config = read_config(folder, KIND)
        encoder = _load(LayoutEncoder, folder / "layout_encoder")
        denoiser: Backbone
        if config.get("backbone", "unet") == "unet":
            denoiser = Denoiser(_load(UNet2DConditionModel, folder / "unet"), encoder)
        else:
            denoiser = _load_adapter(config, encoder, folder)
        return Generator(
            denoiser.eval(), tuple(config["vocabulary"]), int(config["image_size"]), config["digest"],
            Sectors.read(config.get("sectors", {})),
        )  # fmt: skip


def _save(network: ModelMixin, folder: Path) -> None:
    network.save_pretrained(folder, safe_serialization=True, max_shard_size=SHARD_BYTES)


def _load(kind: type[ConfigMixin], folder: Path) -> Any:
    """Return a network built from its configuration, then filled by us: from_pretrained would also open pickles."""
    try:
        network = kind.from_config(kind.load_config(folder))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder}: no readable configuration ({error}); run train again") from error
    load_weights(network, folder / _WEIGHTS)
    return network


def _save_adapter(denoiser: Backbone, folder: Path) -> dict[str, Any]:
    from fetalflex.model.stable_diffusion import StableDiffusion

    if not isinstance(denoiser, StableDiffusion):
        raise ModelError(f"{type(denoiser).__name__} has no form on disk; expected Denoiser or StableDiffusion")
    save_module(folder / "tokens", denoiser.adapter.tokens, {"kind": _TOKENS})
    return {"backbone": "sd", "base": denoiser.base_name, "base_sha256": denoiser.base_sha256}


def _load_adapter(config: dict[str, Any], encoder: LayoutEncoder, folder: Path) -> Backbone:
    from fetalflex.model.stable_diffusion import StableDiffusion, load_base

    base = load_base(str(config["base"]))
    if base.sha256 != config["base_sha256"]:
        trained = str(config["base_sha256"])[:12]
        raise ModelError(f"{folder}: was trained on another {base.name} ({trained}); found {base.sha256[:12]}")
    denoiser = StableDiffusion(base, encoder)
    read_config(folder / "tokens", _TOKENS)
    load_weights(denoiser.adapter.tokens, folder / "tokens" / "model.safetensors")
    return denoiser
