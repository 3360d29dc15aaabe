import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy import biometry
from fetalflex.anatomy.ontology import plane as ontology_plane
from fetalflex.anatomy.ontology import structure
from fetalflex.errors import LayoutError
from fetalflex.phantom.planes import PLANS, Canvas, plan, semi_axes
from fetalflex.phantom.tissues import INDEX, TISSUES, table
from fetalflex.rng import generator

ages = st.floats(18, 34)
seeds = st.integers(0, 10**6)
U, V = np.meshgrid(np.arange(-80, 80, 1.0), np.arange(-80, 80, 1.0))


@given(st.floats(20, 400), st.floats(0.5, 1))
def test_semi_axes_have_the_circumference_and_ratio(circumference: float, ratio: float) -> None:
    a, b = semi_axes(circumference, ratio)
    angles = np.linspace(0, 2 * np.pi, 4001)
    drawn = np.hypot(np.diff(a * np.cos(angles)), np.diff(b * np.sin(angles))).sum()
    assert b / a == pytest.approx(ratio)
    assert drawn == pytest.approx(circumference, rel=1e-3)


@settings(deadline=None, max_examples=25)
@given(ages, seeds, st.sampled_from(list(PLANS)))
def test_paints_every_structure_within_its_half_sizes(weeks: float, seed: int, plane: str) -> None:
    made = plan(plane, weeks, generator(seed))
    canvas = Canvas(U, V)
    made.paint(canvas)
    assert set(canvas.masks) == {n for n in ontology_plane(plane).structures if structure(n).seen_normally}
    for mask in canvas.masks.values():
        assert mask.any()
        assert np.abs(U[mask]).max() <= made.half[0] + 1
        assert np.abs(V[mask]).max() <= made.half[1] + 1
        assert (canvas.tissue[mask] >= 0).all()


@settings(deadline=None, max_examples=60)
@given(ages, seeds)
def test_sizes_lie_within_two_standard_deviations_of_their_age(weeks: float, seed: int) -> None:
    for plane, measure in (("transventricular", "hc"), ("abdomen", "ac"), ("femur", "fl")):
        value = plan(plane, weeks, generator(seed)).sizes_mm[measure]
        z = (value - biometry.mean_mm(measure, weeks)) / biometry.sd_mm(measure, weeks)
        assert abs(z) <= 2 + 1e-9


@given(ages, seeds)
def test_proportions_are_normal(weeks: float, seed: int) -> None:
    head = plan("transventricular", weeks, generator(seed)).sizes_mm
    assert 0.70 < head["bpd"] / head["ofd"] < 0.87  # cephalic index
    assert 6 < head["atrium"] < biometry.ATRIAL_LIMIT_MM
    heart = plan("four-chamber", weeks, generator(seed)).sizes_mm
    assert heart["heart"] / heart["thorax"] == pytest.approx(biometry.CARDIOTHORACIC_RATIO, abs=0.061)


def test_ellipses_turn_with_their_angle() -> None:
    canvas = Canvas(U, V)
    flat, upright = canvas.within(0, 0, 30, 10), canvas.within(0, 0, 30, 10, np.pi / 2)
    np.testing.assert_allclose(flat, upright.T, atol=1e-9)
    assert canvas.within(5, -3, 4, 4)[77, 85] == pytest.approx(0)


def test_variation_comes_from_the_generator_alone() -> None:
    sizes = [plan("abdomen", 24.0, generator(seed)).sizes_mm["ac"] for seed in (1, 1, 2)]
    assert sizes[0] == sizes[1] != sizes[2]
    with pytest.raises(LayoutError, match="no plane 'profile'"):
        plan("profile", 24.0, generator(1))


def test_tissues_are_ordered_as_ultrasound_shows_them() -> None:
    level = dict(zip(INDEX, table("echo_db"), strict=True))
    assert level["fluid"] < level["blood"] < level["cortex"] < level["brain"] < level["liver"] < level["choroid"]
    assert level["choroid"] < level["skull"] <= level["bone"]
    loss = dict(zip(INDEX, table("attenuation"), strict=True))
    assert loss["fluid"] < loss["liver"] < loss["skull"] < loss["bone"]
    assert all(0 < t.density <= 1 for t in TISSUES)
    assert len(INDEX) == len(TISSUES)
