"""The whole model as a diffusers pipeline: generator, guide and plane reader in one folder, loaded in one line.

It needs neither the chain nor the network, and nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from fetalflex.anatomy.layout import Layout
from fetalflex.artifacts import read_json
from fetalflex.diffusion.two_stage import Pixels, SampleRequest, SampleResult, stream_images
from fetalflex.errors import ArtifactError, ModelError
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.checkpoint import PICKLES
from fetalflex.model.condition import NOT_STATED
from fetalflex.model.denoiser import Denoiser
from fetalflex.model.generator import Generator
from fetalflex.model.layout_encoder import LayoutEncoder
from fetalflex.model.plane_reader import PlaneReader
from fetalflex.model.sectors import Sectors
from fetalflex.params import Sample

Asked = Layout | SampleRequest | str
INDEX, SHARD = "model_index.json", "16MB"
# What is planned, not how it is sampled: a pipeline has no use for it.
_SAMPLING = frozenset(
    ("budget", "coarse_steps", "adapt_time", "fine_steps", "fine_time", "solver", "agreement", "guidance",
     "guidance_until", "guidance_rescale", "steering", "darkening", "typical_outlines", "real_sectors",
     "remove_checkerboard", "repaint_jumps", "repaint_margin_px", "batch_size")
)  # fmt: skip


class Guide(ModelMixin, ConfigMixin):
    """The segmenter `guide` as diffusers saves and loads models."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, channels: tuple[int, ...], trained: tuple[str, ...], role: Literal["guide"] = "guide") -> None:
        super().__init__()
        if role != "guide":
            raise ModelError(f"a pipeline holds the segmenter 'guide' alone; found {role!r}")
        self.segmenter = Segmenter(tuple(channels), tuple(trained), role)

    @staticmethod
    def of(segmenter: Segmenter) -> Guide:
        """Return a segmenter in this form. Raises: ModelError where it is the judge."""
        with torch.device("meta"):  # draws no random number
            guide = Guide(segmenter.channels, segmenter.trained, segmenter.role)
        guide.segmenter = segmenter
        return guide.eval()


@dataclass
class FetalFlexOutput(BaseOutput):
    """What a call returns. `images`: PIL images, or uint8 [N, S, S]; `results`: what each took, and its layout."""

    images: list[Image.Image] | Pixels
    results: list[SampleResult]


class FetalFlexPipeline(DiffusionPipeline):
    """Layouts in, fetal ultrasound out, by two-stage adaptive sampling.

    unet, layout_encoder, guide: the networks; plane_reader: tells an image's plane, or None. vocabulary: the centers
    whose style it knows. sampling: parameters of `params.Sample`. shapes: normal layouts as statistics per plane
    (`synthesis.shapes`), or None. sectors: the centers' fields of view (`model.sectors`), or None. There is no
    scheduler: the two stages choose their own times, image by image.

        pipeline = FetalFlexPipeline.from_pretrained("model")
        layout = Layout("transventricular", "image", 1.0, (LayoutObject("head", (0.15, 0.2, 0.85, 0.8)),))
        pipeline(layout, seed=1).images[0].save("image.png")
    """

    model_cpu_offload_seq = "layout_encoder->unet->guide"
    _optional_components = ["plane_reader"]  # noqa: RUF012

    def __init__(
        self,
        unet: UNet2DConditionModel,
        layout_encoder: LayoutEncoder,
        guide: Guide,
        plane_reader: PlaneReader | None = None,
        vocabulary: Sequence[str] = (NOT_STATED,),
        image_size: int = 64,
        digest: str = "",
        sampling: dict[str, Any] | None = None,
        shapes: dict[str, Any] | None = None,
        sectors: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, layout_encoder=layout_encoder, guide=guide, plane_reader=plane_reader)
        for part in (unet, layout_encoder, guide, plane_reader):
            if part is not None:
                part.register_to_config(_name_or_path="")  # diffusers would write where it was read from into files
        self.register_to_config(_name_or_path="")
        chosen = Sample() if sampling is None else _parse_sampling(sampling)
        self.register_to_config(
            vocabulary=list(vocabulary), image_size=int(image_size), digest=digest, sampling=sampling_of(chosen),
            shapes=dict(shapes or {}), sectors=dict(sectors or {}),
        )  # fmt: skip
        self.generator = Generator(
            Denoiser(unet, layout_encoder).eval(),
            tuple(vocabulary),
            int(image_size),
            digest,
            Sectors.read(sectors or {}),
        )
        self.sampling = chosen

    @staticmethod
    def of(
        generator: Generator,
        guide: Segmenter,
        plane_reader: PlaneReader | None = None,
        sampling: Sample | None = None,
        shapes: Mapping[str, Any] | None = None,
    ) -> FetalFlexPipeline:
        """Return the pipeline of a trained generator and guide. Raises: ModelError for a generator of another kind."""
        denoiser = generator.denoiser
        if not isinstance(denoiser, Denoiser):
            raise ModelError(
                f"the generator is a {type(denoiser).__name__}, whose base model is not ours to copy; "
                f"expected one trained from scratch"
            )
        return FetalFlexPipeline(
            denoiser.unet, denoiser.layout_encoder, Guide.of(guide), plane_reader, generator.vocabulary,
            generator.size, generator.digest, None if sampling is None else sampling_of(sampling),
            None if shapes is None else dict(shapes), generator.sectors.written(),
        )  # fmt: skip

    @classmethod
    def from_models(cls, folder: Path, sampling: Sample | None = None) -> FetalFlexPipeline:
        """Read a workspace's `models/` (generator, guide, and aligner for the planes). Raises: ModelError."""
        generator, guide = Generator.load(folder / "generator"), Segmenter.load(folder / "guide")
        reader = PlaneReader.load_beside(folder / "aligner") if (folder / "aligner").is_dir() else None
        return cls.of(generator, guide, reader, sampling)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> FetalFlexPipeline:
        """Read a pipeline from its folder; from safetensors alone, without the network.

        A repository of a hub is fetched first, by the hub's own client. `kwargs`: as diffusers takes them.
        Raises: ModelError where it is missing, damaged, pickled, of another configuration or another model's.
        """
        folder = Path(pretrained_model_name_or_path)
        _check_folder(folder)
        if kwargs.pop("use_safetensors", True) is False:
            raise ModelError(f"{folder}: use_safetensors=False was asked; expected safetensors: a pickle can run code")
        kwargs |= {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        with _quiet():
            try:
                pipeline: FetalFlexPipeline = super().from_pretrained(str(folder), **kwargs)
            except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ModelError(f"{folder}: cannot be loaded ({reason}); export the model again") from error
        for name, module in pipeline.components.items():
            if module is not None and name not in kwargs:
                _check_weights(module, folder / name)
                _own_memory(module)
                module.eval()
        pipeline.register_to_config(_name_or_path="")
        return pipeline

    def save_pretrained(self, save_directory: str | Path, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the pipeline's folder, as diffusers does. Raises: ModelError where pickles are asked for."""
        if not safe_serialization:
            raise ModelError("weights are written as safetensors alone: a pickle can run code")
        kwargs.setdefault("max_shard_size", SHARD)
        super().save_pretrained(str(save_directory), safe_serialization=True, **kwargs)

    @torch.no_grad()
    def __call__(
        self,
        layouts: Asked | Sequence[Asked],
        seed: int = 0,
        params: Sample | None = None,
        output_type: Literal["pil", "np"] = "pil",
        return_dict: bool = True,
    ) -> FetalFlexOutput | tuple[list[Image.Image] | Pixels, list[SampleResult]]:
        """Return one image per layout, in their order.

        A layout may be JSON; a `SampleRequest` names its image itself, and may bring a reference and its region.
        Layouts are named by their number: the same seed, number and layout give the same image, in any company.
        Raises: LayoutError, ModelError as `sample_images`.
        """
        requests = as_requests(layouts)
        results = list(self.stream(requests, seed, params))
        images: list[Image.Image] | Pixels
        if output_type == "np":
            side = self.config.image_size
            images = np.stack([r.image for r in results]) if results else np.zeros((0, side, side), np.uint8)
        else:
            images = [Image.fromarray(r.image) for r in results]
        return FetalFlexOutput(images=images, results=results) if return_dict else (images, results)

    def stream(
        self, requests: Sequence[SampleRequest], seed: int, params: Sample | None = None
    ) -> Iterator[SampleResult]:
        """Yield results batch by batch, in order, with diffusers' progress bar."""
        chosen = self.sampling if params is None else params
        with self.progress_bar(total=len(requests)) as bar:
            for result in stream_images(self.generator, self.guide.segmenter, requests, chosen, seed):
                yield result
                bar.update()

    def sha256(self) -> str:
        """Return `model_sha256` of this model."""
        return model_sha256(self.generator, self.guide.segmenter)


def model_sha256(generator: Generator, guide: Segmenter) -> str:
    """Return a hash of what decides an image beside its request: weights, centers, sectors and side, however stored.

    Of a generator on a pretrained base, the trained part and the base's own hash.
    """
    digest = hashlib.sha256(f"{list(generator.vocabulary)}:{generator.size}".encode())
    digest.update(json.dumps(generator.sectors.written()).encode())
    digest.update(str(getattr(generator.denoiser, "base_sha256", "")).encode())
    for part, module in (("generator", generator.denoiser.learner), ("guide", guide)):
        for name, value in sorted(module.state_dict().items()):
            array = value.detach().cpu().contiguous().numpy()
            digest.update(f"{part}.{name}:{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def as_requests(layouts: Asked | Sequence[Asked]) -> list[SampleRequest]:
    """Return requests of layouts, JSON of layouts or requests; the first two are named by their number."""
    listed = [layouts] if isinstance(layouts, Layout | SampleRequest | str) else list(layouts)
    parsed = [Layout.from_json(item) if isinstance(item, str) else item for item in listed]
    return [SampleRequest(f"{i:06d}", item) if isinstance(item, Layout) else item for i, item in enumerate(parsed)]


def sampling_of(params: Sample) -> dict[str, Any]:
    """Return the parameters that say how an image is sampled, as JSON's types."""
    return {k: v for k, v in params.model_dump(mode="json").items() if k in _SAMPLING}


def _parse_sampling(values: Mapping[str, Any]) -> Sample:
    try:
        return Sample.model_validate(dict(values), strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(f"{INDEX}: sampling.{key}: {first['msg']}; export the model again") from error


def _check_folder(folder: Path) -> None:
    """Raises: ModelError where the folder holds no pipeline of ours, or a pickle."""
    if not (folder / INDEX).is_file():
        raise ModelError(
            f"{folder}: no pipeline here ({INDEX} is missing); write one with 'fetalflex export-model DIR'"
        )
    pickles = sorted(p.name for p in folder.rglob("*") if p.suffix in PICKLES)
    if pickles:
        raise ModelError(f"{folder}: holds {pickles[0]}, a pickle, which can run code; expected safetensors alone")
    try:
        index = read_json(folder / INDEX)
    except ArtifactError as error:
        raise ModelError(f"{folder / INDEX}: is damaged ({error}); export the model again") from error
    found = index.get("_class_name") if isinstance(index, dict) else None
    if found != FetalFlexPipeline.__name__:
        raise ModelError(f"{folder}: is a {found}; expected a {FetalFlexPipeline.__name__}")
    for name, kind in _COMPONENTS.items():
        # What stands here would be imported: nothing but our own classes may.
        if list(index.get(name) or ()) != list(kind) and not (name == "plane_reader" and _is_none(index.get(name))):
            raise ModelError(f"{folder / INDEX}: {name} is {index.get(name)}; expected {list(kind)}")


def _is_none(value: Any) -> bool:
    return value is None or list(value) == [None, None]


_COMPONENTS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "layout_encoder": (LayoutEncoder.__module__, LayoutEncoder.__name__),
    "guide": (Guide.__module__, Guide.__name__),
    "plane_reader": (PlaneReader.__module__, PlaneReader.__name__),
}


def _check_weights(module: nn.Module, folder: Path) -> None:
    """Raises: ModelError where the files' tensors are not the module's: diffusers only warns of missing ones."""
    expected = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as stream:
            found |= {k: tuple(stream.get_slice(k).get_shape()) for k in stream.keys()}  # noqa: SIM118
    wrong = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    if wrong:
        raise ModelError(
            f"{folder}: weights belong to another configuration ({len(wrong)} tensors, first {wrong[0]}: expected "
            f"{expected.get(wrong[0])}, found {found.get(wrong[0])})"
        )


def _own_memory(module: nn.Module) -> None:
    """Move weights that diffusers left in the mapped file to memory that torch allocates.

    A file's tensors begin anywhere, torch's at multiples of 64 bytes, and the last bits of a matrix product depend on
    it: a model would make other images read from its folder than in the process that trained it.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone()


class _quiet:  # noqa: N801
    """Silence diffusers' warnings of weights that do not fit, inside the block: they become one error of ours."""

    def __enter__(self) -> None:
        self._log = logging.getLogger("diffusers")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        self._log.setLevel(self._level)
