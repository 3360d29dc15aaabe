"""Mechanical checks of the synthetic images; real training images set limits, real test images say how they err."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fetalflex.anatomy.layout import Layout, Mask, fluid_spaces, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.dataset import Cases
from fetalflex.quality.bootstrap import mean_interval
from fetalflex.quality.fidelity.measure import Figure
from fetalflex.quality.plausibility.checks import REASONS, Pictures, failures, learn_limits
from fetalflex.quality.plausibility.sizes import out_of_range
from fetalflex.rng import generator
from tasks.cases import patient_names
from tasks.stage import StageRun

BONE = "femur"
Images = npt.NDArray[np.uint8]
Failures = list[dict[str, str]]


@dataclass(frozen=True, eq=False)
class Checked:
    """The figures, and the columns of the scores: how many checks an image fails, and why."""

    figures: tuple[Figure, ...]
    columns: list[pl.Series]


def check_images(run: StageRun, synthetic: pl.DataFrame, images: Images, real: tuple[Cases, Cases]) -> Checked:
    """Check every synthetic image. real: training cases, which set the limits, and test cases."""
    train, test = real
    limits = learn_limits(_real(train))
    asked = [Layout.from_json(text) for text in synthetic["layout"]]
    bones = np.stack([rasterize(layout, images.shape[1]).maps[structure_index(BONE)] > 0.5 for layout in asked])
    centers = synthetic["center"].to_numpy().astype(np.str_)
    fluid = np.stack([_fluid(layout, images.shape[1]) for layout in asked])
    found = failures(Pictures(images, centers, bones, fluid), limits)
    # An anomaly is out of range on purpose: of an abnormal image the layout before the edit is judged.
    normal = [
        text if text is not None else own for text, own in synthetic.select("layout_normal", "layout").iter_rows()
    ]
    _judge_sizes(found, [Layout.from_json(text) for text in normal])
    strangers = failures(_real(test), limits)
    _judge_sizes(strangers, [test.layout(i) for i in range(len(test))])
    options = (run.params.score.bootstrap, run.params.data.seed)
    sources = synthetic["source_case"].to_numpy().astype(np.str_)
    figures = _figures((found, sources), (strangers, patient_names(test)), *options)
    because = ["; ".join(r.values()) or None for r in found]
    return Checked(
        figures,
        [pl.Series("implausible", [len(r) for r in found]), pl.Series("implausible_because", because, dtype=pl.String)],
    )


def _judge_sizes(found: Failures, layouts: Sequence[Layout]) -> None:
    """Add to each image's failures what its layout, as it was before any edit, asks for beyond all growth."""
    for reasons, layout in zip(found, layouts, strict=True):
        told = out_of_range(layout)
        if told is not None:
            reasons["layout"] = told


def _fluid(layout: Layout, size: int) -> Mask:
    return np.logical_or.reduce([np.zeros((size, size), bool), *fluid_spaces(layout, size).values()])


def _real(cases: Cases) -> Pictures:
    return Pictures(cases.images, cases.centers.astype(np.str_), cases.masks[:, structure_index(BONE)])


def _figures(
    made: tuple[Failures, npt.NDArray[np.str_]], real: tuple[Failures, npt.NDArray[np.str_]], draws: int, seed: int
) -> tuple[Figure, ...]:
    rows = []
    for check in (None, *REASONS):
        name = "implausible_fraction" if check is None else f"implausible.{check}"
        here, there = (
            np.array([float(bool(f) if check is None else check in f) for f in side[0]]) for side in (made, real)
        )
        found = mean_interval(here, made[1], draws, generator(seed, name))
        n, errs = (len(here), len(there), len(here)), float(there.mean())
        rows.append(Figure(name, found.value, found.low, found.high, *n, errs, len(there)))
    return tuple(rows)
