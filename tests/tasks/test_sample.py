"""What is asked of the generator for a planned image, and what the table says of it."""

from dataclasses import replace

import numpy as np
import pytest

from fetalflex.anatomy.layout import changed_region, to_avoid
from fetalflex.diffusion.two_stage import SampleResult
from fetalflex.errors import AnomalyError
from fetalflex.planning import Planned, partner_id, plan_images
from tasks.sample import _changes, asked, counterfactual, single
from tests.fetalflex.test_planning import MIXED, SIZE, VENTRICULOMEGALY, params

GREY = np.full((SIZE, SIZE), 90, np.uint8)


def _planned(name: str, kind: str) -> Planned:
    anomalies = [VENTRICULOMEGALY, {"name": "absent-stomach"}]
    wanted = [a for a in anomalies if a["name"] == name]
    plan = plan_images(MIXED, params(normal=1, abnormal=1, pairs=1, anomalies=wanted))
    return next(p for p in plan if p.kind == kind)


def test_an_abnormal_image_is_asked_with_its_abnormal_layout() -> None:
    planned = _planned("ventriculomegaly", "abnormal")
    request = single(planned)
    assert request.image_id == planned.image_id
    assert request.layout is planned.abnormal
    assert request.reference is None
    assert request.avoided is None


def test_a_pair_changes_only_where_its_layouts_differ() -> None:
    planned = _planned("ventriculomegaly", "pair-normal")
    normal = SampleResult(planned.image_id, GREY, GREY, planned.normal, 12, 0.9, 0.9)
    assert single(planned).layout is planned.normal
    request = counterfactual(planned, normal)
    assert request.image_id == partner_id(planned.image_id)
    assert planned.abnormal is not None
    assert request.region is not None
    assert np.array_equal(request.region, changed_region(planned.normal, planned.abnormal, SIZE))
    assert request.reference is GREY
    with pytest.raises(AnomalyError, match="no abnormal layout"):
        counterfactual(replace(planned, abnormal=None), normal)


@pytest.mark.parametrize("kind", ["abnormal", "pair-normal"])
def test_what_is_taken_away_is_avoided_as_the_normal_layout_has_it(kind: str) -> None:
    planned = _planned("absent-stomach", kind)
    normal = SampleResult(planned.image_id, GREY, GREY, planned.normal, 12, 0.9, 0.9)
    request = single(planned) if kind == "abnormal" else counterfactual(planned, normal)
    assert request.avoided is not None
    assert request.avoided.find("stomach") is not None
    assert request.layout.find("stomach") is None
    assert request.layout.absent == {"stomach"}


def test_a_derived_age_is_not_told_to_the_generator() -> None:
    layout = replace(MIXED.layout(0), age_weeks=23.0, age_derived=True)
    assert asked(layout).age_weeks is None
    stated = replace(layout, age_derived=False)
    assert asked(stated) is stated
    assert to_avoid(stated, layout) is None


def test_the_table_holds_up_to_two_anomalies_with_their_units() -> None:
    layout = MIXED.layout(0)
    two = Planned("x", "abnormal", layout, "c", "varied", layout, (("microcephaly", -4.0), ("ventriculomegaly", 14.0)))
    assert _changes(two) == {
        "anomaly": "microcephaly", "severity": -4.0, "severity_unit": "SD",
        "second_anomaly": "ventriculomegaly", "second_severity": 14.0, "second_severity_unit": "mm",
    }  # fmt: skip
    assert set(_changes(None).values()) == {None}
    assert _changes(None).keys() == _changes(two).keys()
