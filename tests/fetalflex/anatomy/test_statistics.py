"""On layouts of the phantom; no real set states its ages."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy import biometry
from fetalflex.anatomy.anomalies import measure_anomaly, urinary_tract_grade
from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.measure import circumference, region_of
from fetalflex.anatomy.statistics import (
    FRAMES,
    PlaneStatistics,
    draw_layout,
    expected_mm,
    fit_statistics,
    frame_score,
    frame_size,
    sample_layout,
)
from fetalflex.errors import LayoutError, TooFewCasesError
from fetalflex.rng import generator
from tests.fetalflex.anatomy.test_catalogue import phantom_layout

PLANES = ("transventricular", "transcerebellar", "abdomen", "kidneys", "four-chamber", "femur")


@cache
def statistics(plane: str) -> PlaneStatistics:
    return fit_statistics([phantom_layout(plane, 19.0 + seed, seed, "mm", 3.4) for seed in range(10)])


@settings(deadline=None, max_examples=8)
@pytest.mark.parametrize("plane", PLANES)
@given(weeks=st.floats(20, 28), seed=st.integers(0, 1000))
def test_samples_lie_within_the_published_percentiles_of_their_age(plane: str, weeks: float, seed: int) -> None:
    made = sample_layout(statistics(plane), weeks, generator(seed))
    name, measure = FRAMES[plane]
    if name in ("head", "abdomen"):
        size = circumference(region_of(made, name), made.extent)
    else:  # a thorax is a fixed share of the abdomen
        size = frame_size(made) * biometry.mean_mm(measure, weeks) / expected_mm(plane, weeks)[0]
    assert 1.5 < biometry.percentile_of(measure, weeks, size) < 98.5
    assert abs(frame_score(made, weeks)) < 2.2
    assert made.age_weeks == weeks
    assert not any(o.edited for o in made.objects)
    if plane == "transventricular":
        assert measure_anomaly(made, "ventriculomegaly") < 10
    if plane == "transcerebellar":
        assert measure_anomaly(made, "enlarged-cisterna-magna") < 10
    if plane == "four-chamber":
        assert measure_anomaly(made, "cardiomegaly") < 0.56
    if plane == "kidneys":
        assert urinary_tract_grade(measure_anomaly(made, "hydronephrosis"), weeks) == "normal"
    frame = region_of(made, name)
    for item in made.objects:
        inside = region_of(made, item.structure)
        assert (inside & ~frame).sum() <= 0.03 * inside.sum() + 3


@pytest.mark.parametrize("plane", PLANES)
def test_samples_are_new_and_come_from_the_generator_alone(plane: str) -> None:
    model = statistics(plane)
    one, again, other = (sample_layout(model, 24.0, generator(seed)) for seed in (1, 1, 2))
    assert one.to_json() == again.to_json() != other.to_json()
    texts = {t.to_json() for t in model.templates}
    assert one.to_json() not in texts
    masks = {(o.structure, o.mask.tobytes()) for t in model.templates for o in t.objects if o.mask is not None}
    for seed in range(6):
        made, number = draw_layout(model, 24.0, generator(seed))
        assert {o.structure for o in made.objects} == {o.structure for o in model.templates[number].objects}
        assert not masks & {(o.structure, o.mask.tobytes()) for o in made.objects if o.mask is not None}
    places = np.array([np.ravel([o.box for o in sample_layout(model, 24.0, generator(s)).objects]) for s in range(8)])
    assert places.std(axis=0).min() > 0.1  # mm: every structure varies


def test_few_layouts_lean_on_the_published_biometry() -> None:
    layouts = [phantom_layout("abdomen", 24.0, seed, "mm", 3.4) for seed in range(3)]
    model = fit_statistics(layouts)
    assert abs(model.mean[0]) < abs(np.mean(model.features[:, 0])) + 1e-12
    assert 0.5 < model.covariance[0, 0] < 1.5


@pytest.mark.parametrize("plane", ["transventricular", "abdomen", "four-chamber"])
def test_layouts_without_age_or_scale_give_sizes_relative_to_the_canvas(plane: str) -> None:
    layouts = [replace(phantom_layout(plane, 20.0 + s, s, "image", 3.4), age_weeks=None) for s in range(8)]
    model = fit_statistics(layouts, relative=True)
    assert not model.absolute
    sizes = np.log([frame_size(x) / x.extent for x in layouts])
    for seed in range(6):
        made = sample_layout(model, None, generator(seed))
        assert (made.unit, made.age_weeks) == ("image", None)
        assert abs(np.log(frame_size(made) / made.extent) - sizes.mean()) < 0.02 + 2 * np.hypot(sizes.std(), 0.06)
        assert {o.structure for o in made.objects} == {o.structure for o in layouts[0].objects}


def test_few_heads_lean_on_the_published_shape() -> None:
    layouts = [phantom_layout("transventricular", 24.0, seed, "image", 3.4) for seed in range(3)]
    model = fit_statistics(layouts, relative=True)
    index, seen = 100 * np.exp(model.mean[1]), 100 * np.exp(model.features[:, 1].mean())
    assert min(78.3, seen) <= index <= max(78.3, seen)
    assert abs(index - 78.3) < abs(seen - 78.3)


def test_a_derived_age_teaches_no_size() -> None:
    layouts = [replace(phantom_layout("abdomen", 24.0, s), age_derived=True) for s in range(4)]
    with pytest.raises(TooFewCasesError, match="0 layouts in mm with age"):
        fit_statistics(layouts)
    assert len(fit_statistics(layouts, relative=True).templates) == 4


def test_says_what_it_cannot_learn_from() -> None:
    normal = phantom_layout("abdomen", 24.0, 1)
    with pytest.raises(TooFewCasesError, match="0 layouts in mm"):
        fit_statistics([phantom_layout("abdomen", 24.0, 1, "image")])
    with pytest.raises(LayoutError, match="expected one plane"):
        fit_statistics([normal, phantom_layout("femur")])
    with pytest.raises(LayoutError, match="expected one plane"):
        fit_statistics([phantom_layout("face")])
    with pytest.raises(LayoutError, match="abnormal"):
        fit_statistics([replace(normal, objects=tuple(replace(o, edited=True) for o in normal.objects))])
    with pytest.raises(LayoutError, match="abnormal"):
        fit_statistics([Layout("abdomen", "mm", 90.0, (), absent=frozenset({"stomach"}))])
    with pytest.raises(LayoutError, match="expected 14 to 40"):
        sample_layout(statistics("abdomen"), 50.0, generator(1))
