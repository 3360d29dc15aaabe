"""The list of anomalies in the parameters, checked against the table of those that exist."""

from typing import Any

import pytest

from fetalflex.anatomy.catalogue import ANOMALIES
from fetalflex.anatomy.severities import KINDS
from fetalflex.errors import ParameterError
from fetalflex.params import Params, Sample, parse
from fetalflex.params_plan import severity_range

WIDE = {"name": "ventriculomegaly", "severity": [12.0, 18.0]}


def sample(*anomalies: dict[str, Any], **more: Any) -> Sample:
    values = {"preset": "x", "ingest": {"centers": {"a": "frames"}}, "sample": {"anomalies": anomalies} | more}
    return parse(values, Params, "params.yaml").sample


def message(*anomalies: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        sample(*anomalies, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_every_anomaly_of_the_catalogue_can_be_asked_over_its_whole_range(name: str) -> None:
    low, high = ANOMALIES[name].severity
    found = sample({"name": name}, {"name": next(k for k in KINDS if k != name), "severity": None})
    assert severity_range(found.anomalies, name) == (low, high)
    part = sample({"name": name, "severity": [low, (low + high) / 2]})
    assert severity_range(part.anomalies, name) == (low, (low + high) / 2)


@pytest.mark.parametrize(
    ("anomaly", "said"),
    [
        ({"name": "cleft"}, "anomaly 'cleft' is unknown; expected one of absent-csp"),
        ({"name": "ventriculomegaly", "severity": [8.0, 12.0]}, "severity of ventriculomegaly must be two rising"),
        ({"name": "ventriculomegaly", "severity": [18.0, 12.0]}, "within 10 to 25 mm; found [18, 12]"),
        ({"name": "microcephaly", "severity": [-9.0, -3.0]}, "within -7 to -3 SD; found [-9, -3]"),
        ({"name": "absent-csp", "severity": [0.5, 1.0]}, "within 1 (there or not) present"),
        ({"name": "ventriculomegaly", "together": ["a", "b"]}, "exactly one of name and together"),
        ({}, "exactly one of name and together"),
        ({"together": ["ventriculomegaly", "cleft"]}, "anomaly 'cleft' is unknown"),
        ({"together": ["microcephaly", "macrocephaly"]}, "cannot be together: both decide on the head's size"),
        ({"together": ["ventriculomegaly", "short-femur"]}, "cannot be together: no plane can show both"),
        ({"together": ["short-femur", "short-femur"]}, "cannot be together: it is asked twice"),
        ({"together": ["ventriculomegaly", "absent-csp"], "severity": [1, 2]}, "together takes its severities from"),
    ],
)
def test_an_impossible_anomaly_is_named_with_what_was_expected(anomaly: dict[str, Any], said: str) -> None:
    found = message(WIDE, anomaly)
    assert found.startswith("params.yaml: sample.anomalies.1: ")
    assert said in found


@pytest.mark.parametrize(
    ("anomalies", "said"),
    [
        ([], "no weight is above 0"),
        ([WIDE | {"weight": 0.0}], "no weight is above 0"),
        ([WIDE, WIDE], "ventriculomegaly stands there more than once"),
        ([WIDE, {"together": ["ventriculomegaly", "absent-csp"]}], "together names absent-csp, which has no entry"),
    ],
)
def test_an_impossible_list_is_told(anomalies: list[dict[str, Any]], said: str) -> None:
    assert said in message(*anomalies)


def test_two_at_once_take_their_ranges_from_their_own_entries() -> None:
    found = sample(WIDE, {"name": "absent-csp", "weight": 0.0}, {"together": ["ventriculomegaly", "absent-csp"]})
    assert found.anomalies[2].names == ("ventriculomegaly", "absent-csp")
    assert severity_range(found.anomalies, "ventriculomegaly") == (12.0, 18.0)


def test_no_anomaly_is_needed_where_none_is_made() -> None:
    assert sample(abnormal=0, pairs=0).anomalies == ()


def test_an_unknown_key_of_an_anomaly_is_named_with_those_that_are_known() -> None:
    said = message({"name": "absent-csp", "wieght": 2.0})
    assert said == (
        "params.yaml: sample.anomalies.0.wieght: unknown key; expected one of name, together, severity, weight; "
        "found 2.0"
    )
