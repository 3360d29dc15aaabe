"""Where the model comes from, and the folder that it is exported to."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from fetalflex.anatomy.layout import Layout
from fetalflex.errors import ModelError, UsageError
from fetalflex.imports import light_diffusers
from fetalflex.params import Sample
from fetalflex.synthesis.card import Facts, Figure, Origin, model_card, write_card
from fetalflex.synthesis.shapes import fit_shapes

with light_diffusers():
    from fetalflex.model.pipeline import INDEX, FetalFlexPipeline


def open_model(folder: Path, sampling: Sample | None = None) -> FetalFlexPipeline:
    """Read a pipeline's folder, or the models/ of a workspace (then `sampling` says how images are sampled).

    Raises: ModelError where there is neither, or what is there cannot be loaded.
    """
    from diffusers.utils import logging

    logging.disable_progress_bar()
    if (folder / INDEX).is_file():
        pipeline = FetalFlexPipeline.from_pretrained(folder)
    elif (folder / "generator").is_dir():
        pipeline = FetalFlexPipeline.from_models(folder, sampling)
    else:
        raise ModelError(
            f"{folder}: no model here; expected a pipeline's folder ('fetalflex export-model DIR' writes one), or the "
            f"models/ of a workspace where 'fetalflex run' has trained"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_model(
    target: Path,
    pipeline: FetalFlexPipeline,
    layouts: Iterable[Layout],
    origins: tuple[Origin, ...] = (),
    figures: tuple[Figure, ...] = (),
) -> Facts:
    """Write a pipeline with statistics of its training layouts and its card into a new folder, whole or not at all.

    Raises: UsageError where the folder holds something.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already and not empty: name a new folder")
    known = list(layouts)
    planes: dict[str, int] = {}
    for layout in known:
        planes[layout.plane] = planes.get(layout.plane, 0) + 1
    pipeline.register_to_config(shapes=fit_shapes(known))
    trained = [m for m in pipeline.components.values() if m is not None]
    facts = Facts(
        pipeline.sha256(), int(pipeline.config.image_size), sum(p.numel() for m in trained for p in m.parameters()),
        dict(sorted(planes.items())), tuple(pipeline.config.vocabulary)[1:], origins, figures,
        pipeline.plane_reader is not None,
    )  # fmt: skip
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        pipeline.save_pretrained(partial)
        write_card(partial, model_card(facts))
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return facts
