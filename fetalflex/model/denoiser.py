"""The denoiser: diffusers' UNet2DConditionModel on patches, controlled by the layout encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from fetalflex.errors import ModelError
from fetalflex.model.condition import Condition
from fetalflex.model.layout_encoder import LayoutCode, LayoutEncoder, adapter_levels
from fetalflex.params import Train

TIME_SCALE = 1000.0
# Four tenths of a frame are black to the bit, and what a network leaves of its noise there shows. Black lies a little
# below the darkest grey, so that what is only nearly black in a clean estimate is cut off to it in the end.
BLACK = -1.1
_GROUPS = 8


class Backbone(nn.Module):
    """What training and sampling ask of a denoiser, whatever network stands behind it.

    A backbone denoises in a space of its own; in pixels, that is the grey of images, but for black (see `BLACK`).
    """

    layout_encoder: LayoutEncoder
    patch: int

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the velocity for noisy `x` [B, C, s, s] (see `shape`) at times t [B] in [0, 1]."""
        return self.predict(x, t, self.layout_encoder(condition))

    def predict(self, x: Tensor, t: Tensor, code: LayoutCode) -> Tensor:
        """Return the velocity for a condition that is already encoded: sampling encodes it once for all steps."""
        raise NotImplementedError

    def shape(self, size: int) -> tuple[int, int, int]:
        """Return the shape of x for one image of side `size`."""
        return (1, size, size)

    def encode(self, signal: Tensor) -> Tensor:
        """Return images [B, 1, S, S] in [-1, 1] as clean x."""
        return signal

    def decode(self, x: Tensor) -> Tensor:
        """Return clean x as images [B, 1, S, S]."""
        return x

    def training_times(self, count: int, random: torch.Generator) -> Tensor | None:
        """Return the times [count] that this backbone is to be trained at; None: those of the parameters."""
        del count, random
        return None

    def loss_weight(self, t: Tensor) -> Tensor | None:
        """Return the weight [B] of the velocity's squared error at t that is its own objective; None: 1."""
        del t
        return None

    @property
    def learner(self) -> nn.Module:
        """The part that is trained and saved."""
        return self

    def checkpoint_gradients(self) -> None:
        """Compute the UNet's activations anew in the backward pass instead of keeping them: the same numbers."""
        raise NotImplementedError


class Denoiser(Backbone):
    """A UNet2DConditionModel with its layout encoder; runs at side S / patch.

    The encoder reaches the UNet through diffusers' own interfaces alone: `encoder_hidden_states` with their mask,
    `down_intrablock_additional_residuals`, `class_labels` where it has a class embedding, and more input channels
    where it has room for them. So any UNet2DConditionModel of fitting channels can be put here.
    """

    def __init__(self, unet: UNet2DConditionModel, layout_encoder: LayoutEncoder) -> None:
        super().__init__()
        self.patch = int(layout_encoder.config.patch)
        expected = self.patch**2 + int(layout_encoder.config.stem_channels)
        if unet.config.in_channels != expected or unet.config.out_channels != self.patch**2:
            raise ModelError(
                f"unet and layout encoder do not fit: expected {expected} channels in and {self.patch**2} out; "
                f"found {unet.config.in_channels} and {unet.config.out_channels}"
            )
        self.unet = unet
        self.layout_encoder = layout_encoder

    def predict(self, x: Tensor, t: Tensor, code: LayoutCode) -> Tensor:
        """Return the velocity for a condition that is already encoded: sampling encodes it once for all steps."""
        patches = torch.cat([F.pixel_unshuffle(x, self.patch), code.stem.to(x.dtype)], 1)
        has_class = self.unet.config.class_embed_type is not None
        out = self.unet(
            patches,
            t * TIME_SCALE,
            encoder_hidden_states=code.tokens,
            encoder_attention_mask=code.token_mask,
            class_labels=code.overall if has_class else None,
            # diffusers takes these off the list as it goes and adds some in place.
            down_intrablock_additional_residuals=[r.clone() for r in code.residuals] or None,
        ).sample
        return F.pixel_shuffle(out, self.patch)

    def encode(self, signal: Tensor) -> Tensor:
        """Return images [B, 1, S, S] in [-1, 1] as clean x: their black, -1, lies at `BLACK`."""
        return torch.where(signal <= -1, BLACK, signal)

    def decode(self, x: Tensor) -> Tensor:
        """Return clean x as images [B, 1, S, S]; what is darker than black is black."""
        return x.clamp(min=-1)

    def checkpoint_gradients(self) -> None:
        """Compute the UNet's activations anew in the backward pass instead of keeping them: the same numbers."""
        self.unet.enable_gradient_checkpointing()


def build_unet(params: Train, width: int, size: int) -> UNet2DConditionModel:
    """Return the UNet of these parameters for images of side `size` and tokens of `width`.

    Raises: ModelError where the sides or channels do not divide.
    """
    channels = tuple(params.channels)
    side, shrink = size // params.patch, 2 ** (len(channels) - 1)
    if side % shrink or any(c % 32 for c in channels):
        raise ModelError(
            f"train.channels {channels}, patch {params.patch}: expected multiples of 32 and a side "
            f"{size} / patch that halves {len(channels) - 1} times"
        )
    # Attention only where the map is small: on large ones it costs more than all convolutions together.
    attends = [side // 2**i <= params.attention_side for i in range(len(channels))]
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=params.patch**2 + params.control_channels,
        out_channels=params.patch**2,
        block_out_channels=channels,
        layers_per_block=params.layers_per_block,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        cross_attention_dim=width,
        attention_head_dim=tuple(c // 32 for c in channels),
        norm_num_groups=_GROUPS,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=width,
    )


def build_denoiser(params: Train, aligned: LayoutEncoder, size: int) -> Denoiser:
    """Return an untrained denoiser around a pre-aligned layout encoder, whose weights it takes over."""
    unet = build_unet(params, aligned.config.width, size)
    return Denoiser(unet, fit_encoder(aligned, unet, params.patch, params.control_channels))


def fit_encoder(aligned: LayoutEncoder, unet: UNet2DConditionModel, patch: int, control_channels: int) -> LayoutEncoder:
    """Return a layout encoder for that UNet with the aligned one's weights.

    What the aligned encoder lacks (stem and residual heads, which depend on the UNet) starts fresh.
    """
    config = aligned.config
    levels = adapter_levels(dict(unet.config))
    encoder = LayoutEncoder(config.known, config.width, patch, config.hidden, control_channels, levels)
    take_over(encoder, aligned)
    return encoder


def take_over(target: nn.Module, source: nn.Module) -> None:
    """Copy the weights that both modules have, by name and shape."""
    own = target.state_dict()
    known = {k: v for k, v in source.state_dict().items() if k in own and own[k].shape == v.shape}
    target.load_state_dict({**own, **known})
