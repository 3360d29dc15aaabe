import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.errors import LayoutError
from fetalflex.synthesis.shapes import FEWEST, fit_shapes, sample_shapes
from tests.fetalflex import tiny

CASES = tiny.cases(40)
SHAPES = json.loads(json.dumps(fit_shapes(CASES.layout(i) for i in range(len(CASES)))))


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_drawn_layouts_lie_on_the_canvas_with_structures_in_their_frame(seed: int) -> None:
    layout = sample_shapes(SHAPES, "transventricular", np.random.default_rng(seed))
    maps = rasterize(layout, 64).maps.astype(bool)
    head, csp = maps[structure_index("head")], maps[structure_index("csp")]
    assert head.any()
    assert (csp & ~head).sum() <= 0.2 * max(csp.sum(), 1)
    assert layout.center is None


def test_drawn_layouts_are_as_large_as_the_fitted_ones() -> None:
    drawn = [sample_shapes(SHAPES, "transventricular", np.random.default_rng(i)) for i in range(60)]
    areas = [float(rasterize(layout, 64).maps[structure_index("head")].mean()) for layout in drawn]
    fitted = [float(rasterize(CASES.layout(i), 64).maps[structure_index("head")].mean()) for i in range(len(CASES))]
    assert np.mean(areas) == pytest.approx(np.mean(fitted), rel=0.1)
    assert 0.3 * np.std(fitted) < np.std(areas) < 2.5 * np.std(fitted)


def test_same_seed_draws_the_same_layout_and_another_another() -> None:
    one, two, three = (sample_shapes(SHAPES, "transventricular", np.random.default_rng(s)) for s in (1, 1, 2))
    assert one.to_json() == two.to_json() != three.to_json()


def test_no_number_of_a_single_layout_is_stored() -> None:
    """Moving one of many layouts moves no stored number by as much as that layout moved."""
    layouts = [CASES.layout(i) for i in range(len(CASES))]
    other = [*layouts[:-1], tiny.layout(13)]
    one, two = (np.array(fit_shapes(x)["transventricular"]["pose"]["mean"]) for x in (layouts, other))
    assert np.abs(one - two).max() < 0.2
    assert fit_shapes(layouts[: FEWEST - 1])["transventricular"]["frame"] is None


def test_plane_without_structures_is_asked_for_alone() -> None:
    shapes = fit_shapes([Layout("femur", "image", 1.0, ())] * 3)
    assert sample_shapes(shapes, "femur", np.random.default_rng(0)).objects == ()


def test_unknown_plane_names_the_known_ones() -> None:
    with pytest.raises(LayoutError, match="expected transventricular"):
        sample_shapes(SHAPES, "femur", np.random.default_rng(0))


def test_damaged_statistics_are_one_error() -> None:
    broken = {"transventricular": SHAPES["transventricular"] | {"turns": "none"}}
    with pytest.raises(LayoutError, match="damaged"):
        sample_shapes(broken, "transventricular", np.random.default_rng(0))


def test_abnormal_layouts_are_refused() -> None:
    with pytest.raises(LayoutError, match="abnormal"):
        fit_shapes([tiny.layout(edited=True)])
