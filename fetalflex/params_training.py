"""What every section of the parameters is made of, and the two sections that describe training: alignment, denoiser."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Channels = Annotated[tuple[Positive, ...], Field(min_length=1)]


class Section(BaseModel):
    """A section: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Prealign(Section):
    """Pre-alignment of the layout encoder with the image encoder. `hidden`: channels of the encoders' feature maps.

    A region is pooled on a grid of `region_grid` bins a side from its box grown by `region_margin` of its sides, out
    of feature maps that `image_blocks` residual blocks widen the view of. `same_structure`: weight of the contrast
    with regions of the same structure in other images, which alone asks for more than the structure's name.
    """

    steps: Positive = 150
    batch_size: Positive = 16
    learning_rate: Rate = 1e-3
    embedding: Positive = 128
    hidden: Positive = 48
    temperature: Rate = 0.1
    region_grid: Annotated[int, Field(ge=1, le=8)] = 4
    region_margin: Fraction = 0.25
    image_blocks: Annotated[int, Field(ge=0, le=8)] = 2
    same_structure: Annotated[float, Field(ge=0, le=10)] = 1.0
    checkpoint_every: Positive = 50


class Train(Section):
    """The denoiser. `drop_*`: probability that a condition is left out in training, so that it may be in sampling.

    `backbone`: `unet`, trained from the start on pixels, or `sd`, a frozen pretrained Stable Diffusion with trained
    adapters: then `base` names its folder in diffusers' layout, or `hub:OWNER/NAME@REVISION`, `patch` is the factor of
    its autoencoder, and `channels`, `layers_per_block`, `attention_side`, `control_channels` and `time_*` are unused.
    The network runs at side image_size / patch, and attends where its map's side is at most `attention_side`.
    `control_channels`: layout features concatenated to its input, beside the residuals and tokens (0: those alone).
    `time_mean`, `time_std`: the logit-normal law of training times (0 is the image, 1 is noise).
    """

    steps: Positive = 400
    batch_size: Positive = 8
    learning_rate: Rate = 6e-4
    warmup_steps: Positive = 50
    ema_decay: Fraction = 0.99
    backbone: Literal["unet", "sd"] = "unet"
    base: str | None = None
    channels: Channels = (64, 96, 128)
    layers_per_block: Positive = 1
    patch: Literal[1, 2, 4, 8] = 2
    attention_side: Positive = 8
    control_channels: Annotated[int, Field(ge=0)] = 16
    time_mean: float = 0.0
    time_std: Annotated[float, Field(gt=0)] = 1.0
    drop_layout: Fraction = 0.1
    drop_object: Fraction = 0.1
    box_probability: Fraction = 0.3
    drop_modality: Fraction = 0.15
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_checkpointing: bool = False
    checkpoint_every: Positive = 100

    @model_validator(mode="after")
    def _base_belongs_to_sd(self) -> "Train":
        if (self.base is None) == (self.backbone == "sd"):
            raise ValueError(
                f"base names the pretrained model of the backbone sd, and of it alone; found {self.base!r}"
            )
        return self
