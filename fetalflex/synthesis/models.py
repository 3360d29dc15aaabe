"""Where the model comes from, and the folder that it is exported to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fetalflex.anatomy.layout import Layout
from fetalflex.artifacts import writing_folder
from fetalflex.errors import ModelError, UsageError
from fetalflex.imports import light_diffusers
from fetalflex.params import Sample
from fetalflex.synthesis.card import Facts, Figure, Origin, model_card, write_card
from fetalflex.synthesis.shapes import fit_shapes

with light_diffusers():
    from fetalflex.diffusion.two_stage import SampleRequest, SampleResult, SampleStep, sample_steps, stream_images
    from fetalflex.masks.segmenter import Segmenter
    from fetalflex.model.generator import Generator
    from fetalflex.model.pipeline import INDEX, FetalFlexPipeline, model_sha256
    from fetalflex.model.plane_reader import PlaneReader


@dataclass(frozen=True, eq=False)
class Model:
    """What generating and editing need: the networks, how to sample, and statistics of normal layouts."""

    generator: Generator
    guide: Segmenter
    plane_reader: PlaneReader | None
    sampling: Sample
    shapes: Mapping[str, Any]

    def stream(self, requests: Sequence[SampleRequest], seed: int) -> Iterator[SampleResult]:
        """Yield results in order, each batch as soon as it is there."""
        return stream_images(self.generator, self.guide, requests, self.sampling, seed)

    def steps(self, request: SampleRequest, seed: int) -> Iterator[SampleStep]:
        """Yield every step of one image; the last one brings the result."""
        return sample_steps(self.generator, self.guide, [request], self.sampling, seed)

    def alone(self) -> "Model":
        """Return the model as it makes each image by itself, on one thread of the calling thread.

        The last bits of an image depend on the batch's size and on the number of threads: these are the same on all
        machines, and the fastest for a single image.
        """
        torch.set_num_threads(1)
        return replace(self, sampling=self.sampling.model_copy(update={"batch_size": 1}))

    def sha256(self) -> str:
        """Return a hash of what decides an image beside its request; see `model_sha256`."""
        return model_sha256(self.generator, self.guide)


def open_model(folder: Path, sampling: Sample | None = None) -> Model:
    """Read a pipeline's folder, or the models/ of a workspace (then `sampling` says how images are sampled).

    Raises: ModelError where there is neither, or what is there cannot be loaded.
    """
    from diffusers.utils import logging

    logging.disable_progress_bar()
    if (folder / INDEX).is_file():
        found = FetalFlexPipeline.from_pretrained(folder)
        return Model(
            found.generator, found.guide.segmenter, found.plane_reader, found.sampling, dict(found.config.shapes)
        )  # fmt: skip
    if not (folder / "generator").is_dir():
        raise ModelError(
            f"{folder}: no model here; expected a pipeline's folder ('fetalflex export-model DIR' writes one), or the "
            f"models/ of a workspace where 'fetalflex run' has trained"
        )
    reader = PlaneReader.load_beside(folder / "aligner") if (folder / "aligner").is_dir() else None
    generator, guide = Generator.load(folder / "generator"), Segmenter.load(folder / "guide")
    return Model(generator, guide, reader, sampling or Sample(), {})


def export_model(
    target: Path,
    model: Model,
    layouts: Iterable[Layout],
    origins: tuple[Origin, ...] = (),
    figures: tuple[Figure, ...] = (),
) -> Facts:
    """Write a model as a pipeline with its layout statistics and its card into a new folder, whole or not at all.

    Raises: UsageError where the folder holds something; ModelError for a generator on a pretrained base.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already and not empty: name a new folder")
    known = list(layouts)
    planes: dict[str, int] = {}
    for layout in known:
        planes[layout.plane] = planes.get(layout.plane, 0) + 1
    pipeline = FetalFlexPipeline.of(
        model.generator, model.guide, model.plane_reader, model.sampling, fit_shapes(known)
    )  # fmt: skip
    trained = [m for m in pipeline.components.values() if m is not None]
    facts = Facts(
        pipeline.sha256(), int(pipeline.config.image_size), sum(p.numel() for m in trained for p in m.parameters()),
        dict(sorted(planes.items())), tuple(pipeline.config.vocabulary)[1:], origins, figures,
        pipeline.plane_reader is not None,
    )  # fmt: skip
    with writing_folder(target) as partial:
        pipeline.save_pretrained(partial)
        write_card(partial, model_card(facts))
    return facts
