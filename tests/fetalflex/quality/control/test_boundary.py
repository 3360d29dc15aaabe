import numpy as np
import pytest
from scipy import ndimage

from fetalflex.anatomy.ontology import structure_index
from fetalflex.quality.control.boundary import boundary_distances
from tests.fetalflex.quality.control.judged import ellipse, judged

HEAD = structure_index("head")


def surface(mask):
    return mask & ~ndimage.binary_erosion(mask)


def test_distances_are_those_of_the_surfaces_in_millimetres():
    a, b = ellipse(32, 32, 20, 14), ellipse(34, 31, 18, 15)
    mean, high = boundary_distances(judged([{"head": (a, b)}], mm=1.5))
    away = [ndimage.distance_transform_edt(~surface(m)) for m in (a, b)]
    forth, back = away[1][surface(a)], away[0][surface(b)]
    assert mean[0, HEAD] == pytest.approx(1.5 * np.concatenate([forth, back]).mean(), rel=1e-4)
    assert high[0, HEAD] == pytest.approx(1.5 * max(np.percentile(forth, 95), np.percentile(back, 95)), rel=1e-4)


def test_equal_outlines_are_at_zero_and_a_shift_at_its_length():
    mean, high = boundary_distances(judged([{"head": (ellipse(32, 32, 20, 14),) * 2}]))
    assert mean[0, HEAD] == high[0, HEAD] == 0
    box = np.zeros((64, 64), bool)
    box[10:40, 10:40] = True
    moved = boundary_distances(judged([{"head": (np.roll(box, 3, 1), box)}], mm=2.0))[1]
    assert moved[0, HEAD] == pytest.approx(6.0)


def test_nothing_seen_nothing_asked_or_no_spacing_is_no_distance():
    disc, nothing = ellipse(32, 32, 20, 14), np.zeros((64, 64), bool)
    for case in (judged([{"head": (nothing, disc)}]), judged([{"head": (disc, nothing)}]),
                 judged([{"head": (disc, disc)}], mm=float("nan"))):  # fmt: skip
        assert np.isnan(boundary_distances(case)[0]).all()
