"""The table that parameters are checked against says the same as the anomalies themselves."""

import pytest

from fetalflex.anatomy.catalogue import ANOMALIES
from fetalflex.anatomy.ontology import plane
from fetalflex.anatomy.severities import KINDS, together_fault


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_made_by_the_catalogue_and_its_planes_have_its_structure(name: str) -> None:
    kind, anomaly = KINDS[name], ANOMALIES[name]
    assert (anomaly.name, anomaly.unit, anomaly.severity) == (kind.name, kind.unit, kind.severity)
    assert all(kind.structure in plane(p).structures for p in kind.planes)
    assert list(ANOMALIES) == list(KINDS)


def test_a_limit_lies_on_the_side_of_the_normal() -> None:
    assert KINDS["ventriculomegaly"].limit == 10.0
    assert KINDS["ventriculomegaly"].is_reached(10.0)
    assert not KINDS["ventriculomegaly"].is_reached(9.9)
    assert KINDS["microcephaly"].limit == -3.0
    assert KINDS["microcephaly"].is_reached(-3.1)
    assert not KINDS["microcephaly"].is_reached(-2.0)
    assert KINDS["dolichocephaly"].is_reached(70.0)
    assert not any(kind.is_reached(float("nan")) for kind in KINDS.values())


def test_some_cannot_be_together_and_the_reason_is_told() -> None:
    assert together_fault("ventriculomegaly", "absent-csp") is None
    assert together_fault("absent-stomach", "double-bubble") == "both decide on the stomach"
    assert together_fault("cleft-lip", "short-femur") == "no plane can show both"
