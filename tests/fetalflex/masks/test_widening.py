"""Widened ventricles: copies for segmenters, painted as fluid, everything else as it was."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.packed import join, phantom_case
from fetalflex.anatomy.anomalies import measure_anomaly
from fetalflex.anatomy.ontology import structure_index
from fetalflex.dataset import PREDICTED, Cases
from fetalflex.masks.widening import paint_fluid, widened, with_widened
from fetalflex.rng import generator

VENTRICLE, HEAD = structure_index("lateral-ventricle"), structure_index("head")


@pytest.fixture(scope="module")
def heads() -> Cases:
    planes = ("transventricular", "transventricular", "transventricular", "femur")
    return join([phantom_case(plane, "phantom-a", n, 64) for n, plane in enumerate(planes)])


def test_a_copy_shows_a_wide_dark_ventricle_and_nothing_else_moves(heads: Cases) -> None:
    copy = widened(heads, 0, 1)
    assert copy is not None
    assert (
        measure_anomaly(copy.layout(0), "ventriculomegaly")
        > 10.0
        > measure_anomaly(heads.layout(0), "ventriculomegaly")
    )
    others = np.arange(copy.masks.shape[1]) != VENTRICLE
    assert np.array_equal(copy.masks[0, others], heads.masks[0, others])
    grown = copy.masks[0, VENTRICLE] & ~heads.masks[0, VENTRICLE]
    head = heads.masks[0, HEAD]
    assert grown.any()
    assert not (copy.masks[0, VENTRICLE] & ~head).any()
    tissue = head & ~copy.masks[0, VENTRICLE]
    assert copy.images[0][copy.masks[0, VENTRICLE]].mean() < copy.images[0][tissue].mean()
    far = ~head
    far[:2] = far[-2:] = False
    assert np.abs(copy.images[0].astype(int) - heads.images[0])[far].mean() < 1.0


def test_copies_follow_the_cases_and_do_not_depend_on_their_company(heads: Cases) -> None:
    whole = with_widened(heads, 1.0, 5)
    assert np.array_equal(whole.ids[: len(heads)], heads.ids)
    assert set(whole.ids[len(heads) :]) <= {f"{i}-widened" for i in heads.ids[:3]}
    assert len(whole) > len(heads)
    alone = widened(heads.take([1]), 0, 5)
    both = widened(heads, 1, 5)
    assert alone is not None
    assert both is not None
    assert np.array_equal(alone.images, both.images)


def test_a_share_of_none_adds_nothing(heads: Cases) -> None:
    assert len(with_widened(heads, 0.0, 5)) == len(heads)


def test_guessed_outlines_are_not_widened(heads: Cases) -> None:
    guessed = replace(heads, sources=np.where(heads.sources > 0, PREDICTED, 0).astype(np.uint8))
    assert len(with_widened(guessed, 1.0, 5)) == len(heads)


def test_no_case_is_no_copy(heads: Cases) -> None:
    assert len(with_widened(heads.take([]), 1.0, 5)) == 0


def test_paint_stays_near_its_shape() -> None:
    image = np.full((64, 64), 120, np.uint8)
    shape, around = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    shape[28:36, 24:40], around[16:48, 12:52] = True, True
    image[16:20, 12:52] = 10  # something dark to take the level of
    painted = paint_fluid(image, shape, around, generator(3, "paint"))
    changed = np.argwhere(painted != image)
    assert painted[30:34, 28:36].mean() < 110
    assert changed.min(0).min() > 16
    assert changed.max(0).max() < 48
