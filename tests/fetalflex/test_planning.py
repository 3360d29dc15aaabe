"""The plan of all images: a pure function of cases, parameters and seed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.anatomy.anomalies import measure_anomaly
from fetalflex.anatomy.editing import setting_of
from fetalflex.anatomy.layout import Layout, changed_region
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index, structure_index
from fetalflex.anatomy.severities import KINDS
from fetalflex.anatomy.statistics import frame_score
from fetalflex.dataset import EXPERT, Cases
from fetalflex.errors import TooFewCasesError
from fetalflex.params import Params, parse
from fetalflex.planning import Planned, can_show, partner_id, plan_images, shares
from tests.fetalflex.anatomy.test_catalogue import phantom_layout

SIZE = 64
VENTRICULOMEGALY = {"name": "ventriculomegaly", "severity": [12.0, 18.0]}


def params(**sample: Any) -> Params:
    values = {"preset": "x", "ingest": {"centers": {"a": "frames"}}, "sample": sample}
    return parse(values, Params, "params.yaml")


def cases_of(layouts: list[Layout]) -> Cases:
    """Training cases of the phantom, with expert masks, on a canvas of 64 pixels."""
    n = len(layouts)
    masks = np.zeros((n, len(STRUCTURE_NAMES), SIZE, SIZE), bool)
    for i, layout in enumerate(layouts):
        for item in layout.objects:
            masks[i, structure_index(item.structure)] = item.draw(layout.extent, SIZE)
    names = np.array([f"case{i:012d}" for i in range(n)])
    ages = [np.nan if x.age_weeks is None else x.age_weeks for x in layouts]
    spacings = [x.extent / SIZE if x.unit == "mm" else np.nan for x in layouts]
    return Cases(
        ids=names, centers=np.array(["a", "b"] * n)[:n], patients=names, groups=np.array(["train"] * n),
        images=np.zeros((n, SIZE, SIZE), np.uint8), masks=masks,
        sources=np.where(masks.any((2, 3)), EXPERT, 0).astype(np.uint8),
        confidences=np.ones(masks.shape[:2], np.float32),
        planes=np.array([plane_index(x.plane) for x in layouts]), ages=np.array(ages, np.float32),
        spacings=np.array(spacings, np.float32), valid=np.ones((n, SIZE, SIZE), bool),
        ignored=np.zeros((n, SIZE, SIZE), bool),
    )  # fmt: skip


def phantoms(plane: str, count: int, unit: str = "mm") -> list[Layout]:
    return [phantom_layout(plane, 21.0 + seed, seed, unit, 3.2) for seed in range(count)]


BRAINS = cases_of(phantoms("transventricular", 8))
MIXED = cases_of(phantoms("transventricular", 4) + phantoms("abdomen", 4) + phantoms("femur", 2))


def written(planned: Planned) -> tuple[str, str, str, str, str, tuple[tuple[str, float], ...]]:
    return (
        planned.image_id, planned.kind, planned.layout.to_json(), planned.source_case, planned.layout_source,
        planned.changes,
    )  # fmt: skip


@pytest.mark.parametrize("layouts", ["varied", "statistics", "mixed"])
def test_the_plan_is_the_same_every_time_and_counts_are_obeyed(layouts: str) -> None:
    asked = params(normal=5, abnormal=3, pairs=2, layouts=layouts)
    first, second = list(plan_images(BRAINS, asked)), list(plan_images(BRAINS, asked))
    assert [p.kind for p in first] == ["normal"] * 5 + ["abnormal"] * 3 + ["pair-normal"] * 2
    assert [written(p) for p in first] == [written(p) for p in second]
    ids = [p.image_id for p in first] + [partner_id(p.image_id) for p in first]
    assert len(set(ids)) == len(ids)


def test_more_images_leave_the_former_ones_as_they_were() -> None:
    few = [written(p) for p in plan_images(BRAINS, params(normal=3, abnormal=1, pairs=1, layouts="mixed"))]
    many = [written(p) for p in plan_images(BRAINS, params(normal=6, abnormal=3, pairs=4, layouts="mixed"))]
    assert set(few) <= set(many)


def test_only_the_abnormal_layout_is_edited_and_it_shows_what_was_asked() -> None:
    anomalies = [
        VENTRICULOMEGALY, {"name": "absent-stomach"}, {"name": "double-bubble", "severity": [8.0, 10.0]},
        {"name": "short-femur", "severity": [-5.0, -4.0]}, {"name": "microcephaly", "weight": 0.0},
        {"together": ["ventriculomegaly", "microcephaly"]},
    ]  # fmt: skip
    plan = list(plan_images(MIXED, params(normal=4, abnormal=10, pairs=5, anomalies=anomalies)))
    for planned in plan:
        assert not any(o.edited for o in planned.normal.objects)
        assert not planned.normal.absent
        assert (planned.abnormal is None) == (planned.kind == "normal") == (not planned.changes)
        if planned.abnormal is None:
            continue
        assert changed_region(planned.normal, planned.abnormal, SIZE).any()
        for name, severity in planned.changes:
            low, high = KINDS[name].severity
            assert low <= severity <= high
            pixel = {"mm": 2.6, "SD": 1.4}.get(KINDS[name].unit, 1e-9)
            measured = measure_anomaly(planned.abnormal, name, setting_of(planned.normal))
            assert measured == pytest.approx(severity, abs=pixel), name
    made = {name for p in plan for name, _ in p.changes}
    assert made == {"ventriculomegaly", "absent-stomach", "double-bubble", "short-femur", "microcephaly"}
    assert all(len(p.changes) == 2 for p in plan if ("microcephaly" in dict(p.changes)))


def test_what_is_taken_away_may_change_where_it_was() -> None:
    (planned,) = list(
        plan_images(MIXED, params(normal=1, abnormal=0, pairs=1, anomalies=[{"name": "absent-stomach"}]))
    )[1:]
    stomach = planned.normal.find("stomach")
    assert planned.abnormal is not None
    assert stomach is not None
    assert planned.abnormal.absent == {"stomach"}
    region = changed_region(planned.normal, planned.abnormal, SIZE)
    assert np.array_equal(region, stomach.draw(planned.normal.extent, SIZE))


@given(st.lists(st.floats(0.1, 5.0), min_size=1, max_size=6), st.integers(0, 60))
def test_shares_are_proportional_at_every_length(weights: list[float], count: int) -> None:
    turns = list(shares(weights, count))
    assert turns == list(shares(weights, count + 7))[:count]
    got = np.bincount(turns, minlength=len(weights)) if count else np.zeros(len(weights))
    wanted = np.array(weights) / sum(weights) * count
    assert np.abs(got - wanted).max() <= max(1.0, 0.5 * len(weights))


def test_an_anomaly_that_no_case_can_show_is_an_error_that_names_it() -> None:
    with pytest.raises(TooFewCasesError, match="can show double-bubble; expected one of plane abdomen"):
        list(plan_images(BRAINS, params(anomalies=[VENTRICULOMEGALY, {"name": "double-bubble"}])))
    blind = replace(BRAINS, sources=np.zeros_like(BRAINS.sources))
    with pytest.raises(TooFewCasesError, match="none of 8 training cases has a layout"):
        list(plan_images(blind, params()))


def test_an_anomaly_without_room_in_any_case_is_an_error_that_names_it() -> None:
    anomalies = [{"name": "double-bubble", "severity": [30.0, 30.0]}]
    small = cases_of([phantom_layout("abdomen", 19.0, seed) for seed in range(3)])
    with pytest.raises(TooFewCasesError, match="double-bubble could be made in none of 20 drawn cases"):
        list(plan_images(small, params(anomalies=anomalies)))


def test_anomalies_that_nobody_asks_for_need_no_case() -> None:
    bellies = cases_of(phantoms("abdomen", 3))
    assert len(list(plan_images(bellies, params(normal=2, abnormal=0, pairs=0)))) == 2


def test_new_anatomy_is_no_copy_and_fits_its_age() -> None:
    training = {m.tobytes() for m in BRAINS.masks.reshape(-1, SIZE, SIZE) if m.any()}
    plan = list(plan_images(BRAINS, params(normal=12, abnormal=0, pairs=0, layouts="statistics", perturbation=0.0)))
    assert {p.layout_source for p in plan} == {"statistics"}
    for planned in plan:
        assert planned.source_case in BRAINS.ids
        assert planned.normal.age_weeks is not None
        assert 21 <= planned.normal.age_weeks <= 28
        assert not planned.normal.age_derived
        assert abs(frame_score(planned.normal, planned.normal.age_weeks)) < 2.4
        for item in planned.normal.objects:
            assert item.draw(planned.normal.extent, SIZE).tobytes() not in training, item.structure


def test_a_plane_with_too_few_cases_is_varied_and_says_so() -> None:
    plan = list(plan_images(MIXED, params(normal=20, abnormal=0, pairs=0, layouts="statistics", statistics_cases=4)))
    sources = {(p.normal.plane, p.layout_source) for p in plan}
    assert ("femur", "varied") in sources
    assert ("abdomen", "statistics") in sources
    assert ("femur", "statistics") not in sources


def test_mixed_layouts_come_from_both_about_as_asked() -> None:
    plan = list(plan_images(BRAINS, params(normal=40, abnormal=0, pairs=0, layouts="mixed", statistics_share=0.25)))
    share = np.mean([p.layout_source == "statistics" for p in plan])
    assert 0.1 < share < 0.4


def test_an_age_is_derived_from_millimetres_alone_and_marked() -> None:
    undated = [replace(x, age_weeks=None) for x in phantoms("transventricular", 4)]
    for planned in plan_images(cases_of(undated), params(normal=3, abnormal=0, pairs=0)):
        assert planned.normal.age_derived
        assert planned.normal.age_weeks is not None
        assert 16 < planned.normal.age_weeks < 30
    unscaled = cases_of([replace(x, age_weeks=None) for x in phantoms("transventricular", 4, "image")])
    for layouts in ("varied", "statistics"):
        asked = params(normal=3, abnormal=2, pairs=0, layouts=layouts, statistics_cases=3)
        for planned in plan_images(unscaled, asked):
            assert planned.normal.age_weeks is None
            assert planned.normal.unit == "image"


def test_a_layout_must_have_all_that_an_anomaly_needs() -> None:
    layout = BRAINS.layout(0)
    assert can_show(layout, ["ventriculomegaly", "absent-csp"])
    assert not can_show(layout, ["double-bubble"])
    assert not can_show(layout.without("csp"), ["ventriculomegaly", "absent-csp"])


def test_planes_without_a_layout_are_asked_by_plane_center_and_age_alone_as_many_of_each() -> None:
    sources = MIXED.sources.copy()
    sources[4:] = 0  # abdomen and femur are not annotated
    partly = replace(MIXED, sources=sources)
    plan = list(plan_images(partly, params(normal=6, unannotated=5, abnormal=0, pairs=0)))
    bare = plan[6:]
    assert [p.layout.plane for p in bare] == ["abdomen", "femur", "abdomen", "femur", "abdomen"]
    assert all(not p.layout.objects and p.layout_source == "none" and p.kind == "normal" for p in bare)
    sources_of = {str(i): (c, a) for i, c, a in zip(MIXED.ids, MIXED.centers, MIXED.ages, strict=True)}
    assert all((p.layout.center, p.layout.age_weeks) == sources_of[p.source_case] for p in bare)
    assert {p.layout.plane for p in plan[:6]} == {"transventricular"}
    assert len({p.image_id for p in plan}) == 11


def test_where_every_plane_has_a_layout_nothing_is_made_without_one() -> None:
    assert len(list(plan_images(MIXED, params(normal=3, unannotated=5, abnormal=0, pairs=0)))) == 3
