"""A tiny exported model, and pictures, that the tests of synthesis share."""

from functools import cache

import numpy as np

from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.ontology import plane_index
from fetalflex.dataset import Cases
from fetalflex.model.pipeline import FetalFlexPipeline
from fetalflex.model.plane_reader import PlaneReader, fit_plane_reader
from fetalflex.synthesis.models import Model
from fetalflex.synthesis.picture import Picture
from fetalflex.synthesis.shapes import fit_shapes
from tests.fetalflex import tiny


def two_planes(count: int = 24) -> Cases:
    """Heads, and every second case a femur's plane: the negative of a head."""
    cases = tiny.cases(count)
    cases.planes[::2] = plane_index("femur")
    cases.images[::2] = 255 - cases.images[::2]
    return cases


@cache
def reader() -> PlaneReader:
    found = fit_plane_reader(tiny.aligner(), two_planes(), two_planes())
    assert found is not None
    return found


@cache
def pipeline() -> FetalFlexPipeline:
    cases = tiny.cases(20)
    shapes = fit_shapes(cases.layout(i) for i in range(len(cases)))
    made = FetalFlexPipeline.of(tiny.generator(), tiny.segmenter(), reader(), tiny.SAMPLE, shapes)
    made.set_progress_bar_config(disable=True)
    return made


@cache
def model() -> Model:
    found = pipeline()
    return Model(found.generator, found.guide.segmenter, found.plane_reader, found.sampling, found.config.shapes)


def picture(number: int = 1, scale: int = 3, spacing_mm: float | None = None) -> Picture:
    """A head, three times as large as the model's canvas, and wider than high."""
    image = two_planes().images[number]
    grown = np.kron(image, np.ones((scale, scale), np.uint8))
    return Picture(np.ascontiguousarray(grown[scale:-scale]), spacing_mm)


def layout() -> Layout:
    return tiny.layout()
