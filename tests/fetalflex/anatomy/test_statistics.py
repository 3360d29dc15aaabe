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
from fetalflex.anatomy.statistics import FRAMES, PlaneStatistics, fit_statistics, frame_score, sample_layout
from fetalflex.errors import LayoutError, TooFewCasesError
from fetalflex.rng import generator
from tests.fetalflex.anatomy.test_catalogue import phantom_layout

PLANES = ("transventricular", "transcerebellar", "abdomen", "kidneys")


@cache
def statistics(plane: str) -> PlaneStatistics:
    return fit_statistics([phantom_layout(plane, 19.0 + seed, seed, "mm", 3.4) for seed in range(10)])


@settings(deadline=None, max_examples=8)
@pytest.mark.parametrize("plane", PLANES)
@given(weeks=st.floats(20, 28), seed=st.integers(0, 1000))
def test_samples_lie_within_the_published_percentiles_of_their_age(plane: str, weeks: float, seed: int) -> None:
    made = sample_layout(statistics(plane), weeks, generator(seed))
    name, measure = FRAMES[plane]
    percentile = biometry.percentile_of(measure, weeks, circumference(region_of(made, name), made.extent))
    assert 1.5 < percentile < 98.5
    assert abs(frame_score(made, weeks)) < 2.2
    assert made.age_weeks == weeks
    assert not any(o.edited for o in made.objects)
    if plane == "transventricular":
        assert measure_anomaly(made, "ventriculomegaly") < 10
    if plane == "transcerebellar":
        assert measure_anomaly(made, "enlarged-cisterna-magna") < 10
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
    places = np.array([np.ravel([o.box for o in sample_layout(model, 24.0, generator(s)).objects]) for s in range(8)])
    assert places.std(axis=0).min() > 0.1  # mm: every structure varies


def test_few_layouts_lean_on_the_published_biometry() -> None:
    layouts = [phantom_layout("abdomen", 24.0, seed, "mm", 3.4) for seed in range(3)]
    model = fit_statistics(layouts)
    assert abs(model.mean[0]) < abs(np.mean(model.features[:, 0])) + 1e-12
    assert 0.5 < model.covariance[0, 0] < 1.5


def test_says_what_it_cannot_learn_from() -> None:
    normal = phantom_layout("abdomen", 24.0, 1)
    with pytest.raises(TooFewCasesError, match="0 layouts in mm"):
        fit_statistics([phantom_layout("abdomen", 24.0, 1, "image")])
    with pytest.raises(LayoutError, match="expected one plane"):
        fit_statistics([normal, phantom_layout("femur")])
    with pytest.raises(LayoutError, match="abnormal"):
        fit_statistics([replace(normal, objects=tuple(replace(o, edited=True) for o in normal.objects))])
    with pytest.raises(LayoutError, match="abnormal"):
        fit_statistics([Layout("abdomen", "mm", 90.0, (), absent=frozenset({"stomach"}))])
    with pytest.raises(LayoutError, match="expected 14 to 40"):
        sample_layout(statistics("abdomen"), 50.0, generator(1))
