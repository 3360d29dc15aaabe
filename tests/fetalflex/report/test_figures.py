import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.report import figures
from fetalflex.report.figures import Triptych

K = len(STRUCTURE_NAMES)
GREY = np.full((32, 32), 90, np.uint8)
MAPS = np.zeros((K, 32, 32), np.float32)
MAPS[0, 8:24, 4:28] = 1
STEPS = (list(range(40)), [1 / (i + 1) for i in range(40)])
CASES = {
    "samples": lambda: figures.sample_grid([Triptych(GREY, MAPS, GREY, "brain"), Triptych(GREY, MAPS * 0, GREY, "x")]),
    "no samples": lambda: figures.sample_grid([]),
    "pairs": lambda: figures.pair_grid([(GREY, GREY // 2, MAPS[0] > 0, "ventriculomegaly 14 mm")]),
    "whole pair": lambda: figures.pair_grid([(GREY, GREY, MAPS[0] >= 0, "all")]),
    "no pairs": lambda: figures.pair_grid([]),
    "curves": lambda: figures.loss_curves({"guide": STEPS, "judge": STEPS}, "loss"),
    "no curves": lambda: figures.loss_curves({}, "loss"),
    "negative curve": lambda: figures.loss_curves({"a": ([0, 1], [-1.0, 1.0])}, "loss"),
    "bars": lambda: figures.metric_bars([("KID", 0.1, 0.05, 0.2, 0.01), ("other", 0.1, 0.0, 0.2, None)], "distances"),
    "scatter": lambda: figures.severity_scatter([(12.0, 11.0), (14.0, None), (18.0, 19.5)], "x", "mm", 10.0),
    "nothing measured": lambda: figures.severity_scatter([(-4.0, None)], "x", "SD", -3.0),
    "confusion": lambda: figures.confusion_matrix(np.array([[5, 1], [0, 0]]), ["femur", "abdomen"], "resnet"),
}


@pytest.mark.parametrize("name", CASES)
def test_gives_the_same_png_twice(name):
    data = CASES[name]()
    with Image.open(io.BytesIO(data)) as picture:
        assert min(picture.size) > 50
        drawn = np.asarray(picture.convert("RGBA"))
    assert data == CASES[name]()
    assert name.startswith("no ") or len(np.unique(drawn.reshape(-1, 4), axis=0)) > 3


def test_outlines_name_and_colour_what_is_there():
    (outline,) = figures.outlines(MAPS)
    assert outline.structure == "head"
    assert re.fullmatch("#[0-9a-f]{6}", outline.colour)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 12), st.integers(1, 12))
def test_an_outline_encloses_its_pixels(top, left, height, width):
    mask = np.zeros((32, 32), bool)
    mask[top : top + height, left : left + width] = True
    points = np.array(
        [[float(v) for v in p.split()] for p in re.findall(r"[\d.-]+ [\d.-]+", figures.outline_path(mask))]
    )
    assert points.min(0) == pytest.approx([left, top])
    assert points.max(0) == pytest.approx([left + width, top + height])


def test_two_parts_have_two_outlines():
    mask = np.zeros((16, 16), bool)
    mask[2:4, 2:4] = mask[10:12, 10:12] = True
    path = figures.outline_path(mask)
    assert path.count("M") == path.count("Z") == 2


def test_the_running_mean_of_a_constant_is_the_constant():
    assert figures.running_mean(np.full(50, 3.0)) == pytest.approx(np.full(50, 3.0))
