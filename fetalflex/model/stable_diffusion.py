"""A pretrained Stable Diffusion behind the interface of our denoiser: frozen, steered by trained adapters.

The layout encoder reaches the UNet as in our own denoiser: its tokens, projected, stand behind those of an empty
prompt in the cross-attention, and its feature maps are residuals of the down blocks (T2I-Adapter).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from fetalflex.artifacts import tree_sha256
from fetalflex.errors import ModelError
from fetalflex.model.checkpoint import PICKLES, read_tensors
from fetalflex.model.denoiser import Backbone, fit_encoder
from fetalflex.model.layout_encoder import LayoutCode, LayoutEncoder

HUB = "hub:"
NULL_TEXT = "null_embedding.safetensors"
_WEIGHTS = "diffusion_pytorch_model"
_PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True, eq=False)
class Base:
    """A pretrained Stable Diffusion. text: [T, D], the empty prompt's embedding; alphas: [steps], of x_0's variance."""

    name: str
    sha256: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: Tensor
    alphas: Tensor
    prediction: str


class Adapter(nn.Module):
    """What is trained: the layout encoder and the projection of its tokens to the UNet's width."""

    def __init__(self, layout_encoder: LayoutEncoder, cross_width: int) -> None:
        super().__init__()
        self.layout_encoder = layout_encoder
        self.tokens = nn.Linear(int(layout_encoder.config.width), cross_width)


class StableDiffusion(Backbone):
    """A frozen Stable Diffusion (1 or 2) with a trained adapter, as a velocity field of the straight path.

    Diffusion's x_s = a x_0 + b eps (a^2 + b^2 = 1) and the straight path's z_t = (1 - t) x_0 + t eps are the same up
    to scale: with t = b / (a + b), z_t = x_s / (a + b). So the velocity is eps - x_0 of the UNet's own prediction at
    the step s whose b / a is t / (1 - t). Pretrained schedules end before pure noise; beyond, the last step's
    prediction is used, and the velocity points from z_t to its x_0.
    Source: Kingma et al. 2021 (arXiv 2107.00630), section 5.1: models that share a signal-to-noise ratio are equal up
    to scale; Salimans & Ho 2022 (arXiv 2202.00512), appendix D for v-prediction.
    """

    text: Tensor
    log_odds: Tensor

    def __init__(self, base: Base, layout_encoder: LayoutEncoder) -> None:
        super().__init__()
        self.base_name, self.base_sha256, self.prediction = base.name, base.sha256, base.prediction
        self.unet, self.vae = base.unet.requires_grad_(False), base.vae.requires_grad_(False).eval()
        self.adapter = Adapter(layout_encoder, int(base.unet.config.cross_attention_dim))
        self.patch = int(layout_encoder.config.patch)
        self.register_buffer("text", base.text.float(), persistent=False)
        odds = ((1 - base.alphas) / base.alphas.clamp(min=1e-8)).sqrt().log()  # of b / a, rising with the step
        self.register_buffer("log_odds", odds.float(), persistent=False)

    @staticmethod
    def around(base: Base, aligned: LayoutEncoder, patch: int, size: int) -> StableDiffusion:
        """Return an untrained adapter around a base, with the aligned encoder's weights.

        Raises: ModelError where the base's autoencoder or its UNet do not fit `patch` and `size`.
        """
        factor = 2 ** (len(base.vae.config.block_out_channels) - 1)
        halvings = len(base.unet.config.block_out_channels) - 1
        if patch != factor:
            raise ModelError(f"{base.name}: its autoencoder shrinks by {factor}; found train.patch {patch}")
        if size % (factor * 2**halvings):
            raise ModelError(
                f"{base.name}: expected images whose side is a multiple of {factor * 2**halvings}; found {size}"
            )
        return StableDiffusion(base, fit_encoder(aligned, base.unet, patch, 0))

    @property
    def layout_encoder(self) -> LayoutEncoder:  # type: ignore[override]
        """The trained layout encoder."""
        return self.adapter.layout_encoder

    @property
    def learner(self) -> nn.Module:
        """The adapter: the pretrained weights stay as they are."""
        return self.adapter

    def checkpoint_gradients(self) -> None:
        """Compute the UNet's activations anew in the backward pass instead of keeping them: the same numbers."""
        self.unet.enable_gradient_checkpointing()

    def shape(self, size: int) -> tuple[int, int, int]:
        """Return the shape of the autoencoder's latents for one image of side `size`."""
        return (int(self.unet.config.in_channels), size // self.patch, size // self.patch)

    @torch.no_grad()
    def encode(self, signal: Tensor) -> Tensor:
        """Return images [B, 1, S, S] in [-1, 1] as latents (the mode: the same image is always the same latents)."""
        latents = (
            self.vae.encode(signal.expand(-1, int(self.vae.config.in_channels), -1, -1)).latent_dist.mode().float()
        )
        return (latents - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Return latents as images [B, 1, S, S]: the mean of the colours."""
        latents = x / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
        return self.vae.decode(latents).sample.mean(1, keepdim=True)

    def predict(self, x: Tensor, t: Tensor, code: LayoutCode) -> Tensor:
        """Return the velocity [B, C, s, s] of latents `x` at times t [B] in [0, 1]."""
        norm = ((1 - t).square() + t.square()).sqrt()
        seen = t.clamp(max=float(torch.sigmoid(self.log_odds[-1])))
        scale = ((1 - seen).square() + seen.square()).sqrt()
        a, b = _wide((1 - seen) / scale), _wide(seen / scale)
        noisy = x / _wide(norm)
        count = len(x)
        tokens = torch.cat([self.text.expand(count, -1, -1), self.adapter.tokens(code.tokens)], 1)
        mask = torch.cat([code.token_mask.new_ones(count, self.text.shape[0]), code.token_mask], 1)
        out = self.unet(
            noisy, self.step_of(seen), encoder_hidden_states=tokens, encoder_attention_mask=mask,
            down_intrablock_additional_residuals=[r.clone() for r in code.residuals] or None,
        ).sample.float()  # fmt: skip
        if self.prediction == "v_prediction":
            clean, noise = a * noisy - b * out, a * out + b * noisy
        else:
            clean, noise = (noisy - b * out) / a, out
        return torch.where(_wide(t > seen), (x - clean) / _wide(t.clamp(min=1e-6)), noise - clean)

    def step_of(self, t: Tensor) -> Tensor:
        """Return the (fractional) step of the pretrained schedule with the signal-to-noise ratio of time t [B]."""
        wanted = torch.logit(t.clamp(1e-6, 1 - 1e-6))
        above = torch.searchsorted(self.log_odds, wanted).clamp(1, len(self.log_odds) - 1)
        low, high = self.log_odds[above - 1], self.log_odds[above]
        return above - 1 + ((wanted - low) / (high - low)).clamp(0, 1)

    def training_times(self, count: int, random: torch.Generator) -> Tensor:
        """Return the times [count] of steps drawn evenly, as the base was trained.

        Source: Ho et al. 2020 (arXiv 2006.11239), algorithm 1.
        """
        steps = torch.randint(len(self.log_odds), (count,), generator=random)
        return torch.sigmoid(self.log_odds.cpu()[steps])

    def loss_weight(self, t: Tensor) -> Tensor:
        """Return what turns the velocity's squared error into that of the UNet's own prediction.

        With eps - eps' = (1 - t) (v - v'), and the v-prediction's error v - v' over the path's norm.
        """
        if self.prediction == "v_prediction":
            return (1 - t).square() + t.square()
        return (1 - t).square()


def load_base(name: str) -> Base:
    """Read a pretrained Stable Diffusion from a folder in diffusers' layout, or from the hub (`hub:OWNER/NAME@REV`).

    Raises: ModelError where it is missing, pickled, damaged, or another kind of model.
    """
    folder = _fetch(name) if name.startswith(HUB) else Path(name)
    if not (folder / "unet" / "config.json").is_file():
        raise ModelError(f"{name}: no Stable Diffusion here; expected a folder in diffusers' layout (unet/, vae/, ...)")
    parts: list[Any] = []
    for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        variant = _variant(folder / part, name)
        try:
            loaded = kind.from_pretrained(
                folder / part, use_safetensors=True, local_files_only=True, variant=variant, low_cpu_mem_usage=False
            )
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{name}: its {part} cannot be read ({reason}); fetch the model again") from error
        parts.append(loaded.float().eval())
    unet, vae = parts
    _check(name, unet, vae)
    try:
        scheduler = DDPMScheduler.from_config(DDPMScheduler.load_config(folder / "scheduler"))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{name}: no readable scheduler ({error}); fetch the model again") from error
    if scheduler.config.prediction_type not in _PREDICTIONS:
        raise ModelError(f"{name}: predicts {scheduler.config.prediction_type}; expected {' or '.join(_PREDICTIONS)}")
    digest = tree_sha256([folder / part for part in ("unet", "vae", "scheduler")])
    text = _null_text(folder, name, int(unet.config.cross_attention_dim))
    return Base(name, digest, unet, vae, text, scheduler.alphas_cumprod, scheduler.config.prediction_type)


def _check(name: str, unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    config: Mapping[str, Any] = unet.config
    latents = int(vae.config.latent_channels)
    known = config["addition_embed_type"] is None and config["class_embed_type"] is None
    if not known or not isinstance(config["cross_attention_dim"], int) or config["in_channels"] != latents:
        raise ModelError(
            f"{name}: its unet takes {config['in_channels']} channels, embeddings {config['addition_embed_type']} and "
            f"{config['class_embed_type']}; expected Stable Diffusion 1 or 2 ({latents} channels, text alone)"
        )


def _variant(folder: Path, name: str) -> str | None:
    """Return the variant of the safetensors in a part's folder, the plain one first. Raises: ModelError."""
    for variant in (None, "fp16"):
        stem = _WEIGHTS if variant is None else f"{_WEIGHTS}.{variant}"
        whole, index = folder / f"{stem}.safetensors", folder / f"{_WEIGHTS}.safetensors.index{_dotted(variant)}.json"
        if whole.is_file() or index.is_file():
            return variant
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    found = f"{pickles[0]}, a pickle, which can run code and is never opened" if pickles else "no weights"
    raise ModelError(f"{name}: {folder.name} holds {found}; expected {_WEIGHTS}.safetensors")


def _dotted(variant: str | None) -> str:
    return "" if variant is None else f".{variant}"


def _null_text(folder: Path, name: str, width: int) -> Tensor:
    """Return the embedding [T, D] of the empty prompt: stored beside the model, or from its text encoder.

    Raises: ModelError where there is neither, or where it is not of the UNet's width.
    """
    if (folder / NULL_TEXT).is_file():
        text = read_tensors(folder / NULL_TEXT)[0].get("text", torch.zeros(0))
    else:
        text = _encode_nothing(folder, name)
    if text.ndim != 2 or text.shape[1] != width or not torch.isfinite(text).all():
        raise ModelError(f"{name}: the empty prompt's embedding is {tuple(text.shape)}; expected [tokens, {width}]")
    return text


def _encode_nothing(folder: Path, name: str) -> Tensor:
    try:
        from transformers import AutoTokenizer, CLIPTextModel
    except ImportError as error:
        raise ModelError(
            f"{name}: no {NULL_TEXT} (tensor 'text', [tokens, width]); expected it, or the package transformers and "
            f"the model's text_encoder/ and tokenizer/"
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True, local_files_only=True)
    except Exception as error:  # tokenizers raises bare ones
        raise ModelError(f"{name}: no readable text encoder ({error}); fetch the model again") from error
    ids = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(ids).last_hidden_state[0].float()


def _fetch(name: str) -> Path:
    """Return the folder of a model of the hub at a stated revision, fetched without any pickle. Raises: ModelError."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(HUB).partition("@")
    if not repository or not revision:
        raise ModelError(
            f"base {name!r}: expected hub:OWNER/NAME@REVISION; a name alone may mean other weights tomorrow"
        )
    patterns = ["unet/*", "vae/*", "scheduler/*", "text_encoder/*", "tokenizer/*", NULL_TEXT]
    pickles = [f"*{suffix}" for suffix in PICKLES]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, ignore_patterns=pickles))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"base {name!r}: cannot be fetched ({reason}); name a local folder instead") from error


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]
