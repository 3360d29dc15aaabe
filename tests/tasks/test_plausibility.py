"""Checks of synthetic images: what was asked for is no fault, and real layouts say how often a check errs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.ontology import plane_index, structure_index
from fetalflex.params import Data, Score
from fetalflex.quality.plausibility.checks import REASONS
from tasks.plausibility import check_images
from tests.fetalflex import tiny

RUN = SimpleNamespace(params=SimpleNamespace(score=Score(bootstrap=20), data=Data()))
HEAD = (12.0, 16.0, 52.0, 48.0)
SPACE = (16.0, 24.0, 40.0, 46.0)  # of fluid, wider than any normal one


def real(count=48):
    """Heads of one device, whose tissue is lit in every image."""
    cases = tiny.cases(count)
    rng = np.random.default_rng(5)
    images = rng.integers(60, 120, cases.images.shape).astype(np.uint8)
    images[:, :4] = 0
    return replace(cases, images=images, centers=np.full(count, "near"), planes=np.full(count, plane_index("brain")))


def table(layouts):
    return pl.DataFrame({
        "layout": [layout.to_json() for layout in layouts], "layout_normal": [None] * len(layouts),
        "center": ["near"] * len(layouts), "source_case": [f"case{i}" for i in range(len(layouts))],
    }, schema_overrides={"layout_normal": pl.String})  # fmt: skip


def asked(edited):
    objects = (LayoutObject("head", HEAD), LayoutObject("lateral-ventricle", SPACE, edited=edited))
    return Layout("transventricular", "image", 64.0, objects, "near", None)


def test_fluid_that_was_asked_for_is_no_gap_and_other_black_is():
    train, test = real(), real(24)
    images = test.images[:2].copy()
    images[:, 12:23, 8:20] = 0  # `SPACE`, on a canvas of 32 pixels for 64 units
    found = check_images(RUN, table([asked(True), asked(False)]), images, (train, test))
    told = [REASONS["gap"] in str(because) for because in found.columns[1]]
    assert told == [False, True]


def test_real_layouts_say_how_the_check_of_sizes_errs():
    train, test = real(), real(24)
    masks = test.masks.copy()
    masks[::2, structure_index("head")] = tiny.ellipse(16, 16, 1.5, 1.2)  # a head of 5 mm
    test = replace(test, masks=masks)
    found = check_images(RUN, table([asked(False)] * 4), test.images[:4], (train, test))
    [figure] = [f for f in found.figures if f.name == "implausible.layout"]
    assert figure.value == 0
    assert figure.floor == 0.5
