import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import ParameterError
from fetalflex.params import Criterion, Gate
from fetalflex.quality.gate import decide, release_figures
from fetalflex.quality.gate_metrics import DIFFERENCES, RATIOS, RELEASE_METRICS, is_release_metric
from fetalflex.quality.summary import Parts, plain, quality_report
from tests.fetalflex.quality.figures import CONTROL, FIGURES, PRIVACY

QUALITY = quality_report(Parts(("inception", "texture"), FIGURES, CONTROL, (), PRIVACY))
DOWNSTREAM = {
    "results": [
        {"model": m, "arm": arm, "metric": "accuracy", "verdict": verdict, "difference": d, "difference_low": d - 0.05}
        for m, arm, verdict, d in [
            ("resnet", "real", None, 0.0),
            ("resnet", "real+synthetic", "helps", 0.06),
            ("densenet", "real+synthetic", "no difference shown", -0.01),
        ]
    ]
}
SCORES = [
    {"image_id": "s2", "dice": 0.4, "nearest_correlation": 0.999},
    {"image_id": "s1", "dice": 0.9, "nearest_correlation": 0.8},
    {"image_id": "s3", "dice": None, "nearest_correlation": 0.7},
]


def at_most(metric, value):
    return Criterion(metric=metric, at_most=value, reason="because")


def at_least(metric, value):
    return Criterion(metric=metric, at_least=value, reason="because")


def test_a_reached_threshold_passes_and_a_missed_one_says_what_would_pass():
    verdict = decide(QUALITY, DOWNSTREAM, SCORES, Gate(release=(at_most("kid", 0.15), at_least("dice", 0.85))))
    passed, failed = verdict["criteria"]
    assert not verdict["passed"]
    assert passed == {
        "metric": "kid", "value": 0.12, "bound": "<= 0.15", "passed": True, "reason": "because", "would_pass_if": None,
    }  # fmt: skip
    assert failed["would_pass_if"] == "dice rises by 0.05 to 0.85"


def test_an_image_of_which_no_structure_was_asked_is_not_judged_by_its_layout():
    rows = [
        {"image_id": "bare", "asked": 0, "dice": None, "nearest_correlation": 0.2},
        {"image_id": "copied", "asked": 0, "dice": None, "nearest_correlation": 0.9},
        {"image_id": "unseen", "asked": 2, "dice": None, "nearest_correlation": 0.2},
    ]
    gate = Gate(release=(), image=(at_least("dice", 0.5), at_most("nearest_correlation", 0.5)))
    images = decide(QUALITY, DOWNSTREAM, rows, gate)["images"]
    assert images["accepted"] == ["bare"]
    assert {r["image_id"] for r in images["rejected"]} == {"copied", "unseen"}


def test_what_was_not_measured_fails():
    for quality, metric in ((QUALITY, "dice.femur"), ({}, "kid"), (QUALITY, "macro_f1_gain")):
        verdict = decide(quality, DOWNSTREAM, SCORES, Gate(release=(at_least(metric, 0.0),)))
        assert not verdict["passed"]
        assert verdict["criteria"][0]["reason"].startswith("not measured")
        assert verdict["criteria"][0]["would_pass_if"] == f"{metric} is measured and >= 0"


@pytest.mark.parametrize(("section", "metric"), [("release", "kidd"), ("image", "kid")])
def test_a_misspelt_metric_lists_those_that_exist(section, metric):
    with pytest.raises(ParameterError, match=rf"gate\.{section}: metric '{metric}' is unknown; expected one of .*dice"):
        decide(QUALITY, DOWNSTREAM, SCORES, Gate(**{section: (at_most(metric, 1),)}))


def test_images_are_rejected_with_every_reason():
    verdict = decide(
        QUALITY, DOWNSTREAM, SCORES, Gate(image=(at_least("dice", 0.5), at_most("nearest_correlation", 0.95)))
    )
    assert verdict["images"]["accepted"] == ["s1"]
    assert verdict["images"]["rejected"] == [
        {"image_id": "s2", "reason": "dice 0.4, must be >= 0.5; nearest_correlation 0.999, must be <= 0.95"},
        {"image_id": "s3", "reason": "dice not measured, must be >= 0.5"},
    ]


def test_the_fraction_of_accepted_images_can_be_a_criterion():
    gate = Gate(image=(at_least("dice", 0.5),), release=(at_least("accepted_fraction", 0.5),))
    verdict = decide(QUALITY, DOWNSTREAM, SCORES, gate)
    assert verdict["criteria"][0]["value"] == pytest.approx(1 / 3)
    assert not verdict["passed"]


def test_a_release_without_an_accepted_image_fails_whatever_its_thresholds():
    gate = Gate(image=(at_least("dice", 0.95), at_most("nearest_correlation", 0.95)), release=(at_most("kid", 0.15),))
    verdict = decide(QUALITY, DOWNSTREAM, SCORES, gate)
    reached, missed = verdict["criteria"]
    assert (reached["passed"], verdict["passed"]) == (True, False)
    assert (missed["metric"], missed["value"], missed["bound"]) == ("accepted_images", 0, ">= 1")
    assert "3 of 3 miss gate.image dice >= 0.95; train longer" in missed["would_pass_if"]
    one = decide(QUALITY, DOWNSTREAM, SCORES, Gate(image=(at_least("dice", 0.9),)))
    assert one["passed"]
    assert not one["criteria"], "where one image passes, the verdict is that of the thresholds alone"


def test_a_release_without_images_fails_and_says_where_they_are_asked_for():
    verdict = decide(QUALITY, DOWNSTREAM, [], Gate())
    assert not verdict["passed"]
    assert "sample.normal" in verdict["criteria"][0]["would_pass_if"]


def test_tables_and_rows_give_the_same_verdict():
    gate = Gate(image=(at_least("dice", 0.5),))
    assert decide(QUALITY, {}, pl.DataFrame(SCORES), gate) == decide(QUALITY, {}, SCORES, gate)


def test_figures_are_read_from_the_reports():
    figures = release_figures(QUALITY, DOWNSTREAM)
    assert all(is_release_metric(name) for name in figures)
    assert set(DIFFERENCES) | set(RATIOS) <= set(figures) & set(RELEASE_METRICS)
    assert figures["kid@center=harbour"] == 0.3
    assert figures["kid.texture"] == 0.5
    assert figures["canary_recall.crop"] == 0.95
    assert figures["kid_above_floor"] == pytest.approx(0.10)
    assert figures["frechet_over_floor"] == pytest.approx(1.5)
    assert figures["dice.head"] == 0.9
    assert figures["dice_over_judge"] == pytest.approx(0.8 / 0.9)
    assert figures["near_copy_fraction"] == 0.5
    assert figures["accuracy_gain"] == -0.01
    assert figures["accuracy_gain_low"] == pytest.approx(-0.06)


@given(st.floats(0, 1), st.floats(0, 1))
def test_at_least_and_at_most_include_the_bound(value, bound):
    quality = {"metrics": [{"name": "kid", "value": value, "floor": None}]}
    gate = Gate(release=(at_most("kid", bound), at_least("kid", bound)))
    below, above = decide(quality, {}, SCORES, gate)["criteria"]
    assert below["passed"] == (value <= bound)
    assert above["passed"] == (value >= bound)


def test_reports_are_json_without_nan():
    assert json.dumps(plain({"a": (float("nan"), 1.0)}), allow_nan=False) == '{"a": [null, 1.0]}'
    json.dumps(QUALITY, allow_nan=False)
