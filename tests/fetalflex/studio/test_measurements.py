from dataclasses import replace

import pytest

from fetalflex.anatomy import biometry
from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.ontology import PLANES
from fetalflex.anatomy.shapes import Ellipse, Polyline
from fetalflex.studio.desk import Desk
from fetalflex.studio.measurements import Measurement, measurements, scale_of
from tests.fetalflex.studio.rooms import head


def measured(layout: Layout) -> dict[str, Measurement]:
    return {m.name: m for m in measurements(layout, scale_of(layout))}


def test_a_head_is_measured_as_calipers_would() -> None:
    found = measured(head(width=11.2))
    assert found["atrial-width"].value == pytest.approx(11.2, abs=100 / 256 + 0.1)  # a pixel of the grid
    assert found["bpd"].value == pytest.approx(54, abs=0.5)
    assert found["ofd"].value == pytest.approx(68, abs=0.5)
    assert found["ci"].value == pytest.approx(100 * 54 / 68, abs=1)
    assert found["hc"].value == pytest.approx(192.3, abs=1)


def test_a_wide_atrium_is_above_its_limit_and_graded() -> None:
    wide, normal = measured(head(width=11.2))["atrial-width"], measured(head(width=7.0))["atrial-width"]
    assert (wide.status, wide.grade, wide.high) == ("high", "mild ventriculomegaly", 10.0)
    assert (normal.status, normal.grade) == ("normal", "")


def test_ranges_are_those_of_the_age_and_missing_without_one() -> None:
    at_22 = measured(head())["hc"]
    assert at_22.low == pytest.approx(biometry.percentile_mm("hc", 22, 3))
    assert at_22.high == pytest.approx(biometry.percentile_mm("hc", 22, 97))
    assert measured(replace(head(), age_weeks=28.0))["hc"].status == "low"
    image = replace(head(unit="image"), age_weeks=None)
    assert measured(image)["hc"].status == "unknown"
    assert "set the age" in measured(image)["hc"].note
    assert "14 to 40" in measured(replace(head(), age_weeks=8.0))["hc"].note


def test_an_age_that_the_size_tells_is_said_to_be_of_the_size() -> None:
    found = measured(replace(head(), age_weeks=None))
    assert found["hc"].note == "age from size"
    assert found["hc"].status == "normal"


def test_an_abnormal_head_is_measured_by_the_normal_one() -> None:
    desk = Desk.of(replace(head(), age_weeks=None), "test").with_anomalies([("microcephaly", -4.0)])
    (hc,) = [m for m in measurements(desk.asked, scale_of(desk.start)) if m.name == "hc"]
    assert hc.status == "low"


def test_estimated_millimetres_are_marked() -> None:
    found = measured(head(unit="image"))
    assert found["atrial-width"].note == "scale estimated from usual sizes"
    assert found["bpd"].value == pytest.approx(biometry.biparietal_diameter_mm(22), abs=0.1)


def test_femur_heart_abdomen_and_pelvis_have_their_measures() -> None:
    bone = LayoutObject.of("femur", Polyline(((30.0, 50.0), (65.0, 50.0)), False, 4.0))
    assert measured(Layout("femur", "mm", 100.0, (bone,), None, 22.0))["fl"].value == pytest.approx(39, abs=1.5)
    chest = (
        LayoutObject.of("thorax", Ellipse((50, 50), (40, 40))),
        LayoutObject.of("heart", Ellipse((50, 50), (26, 26))),
    )
    ratio = measured(Layout("four-chamber", "mm", 100.0, chest))["ctr"]
    assert (ratio.value, ratio.status) == (pytest.approx(0.65, abs=0.01), "high")
    trunk = (
        LayoutObject.of("abdomen", Ellipse((50, 50), (30, 28))), LayoutObject.of("spine", Ellipse((50, 74), (4, 4))),
        LayoutObject.of("kidney", Ellipse((38, 66), (9, 7))),
        LayoutObject.of("renal-pelvis", Ellipse((38, 66), (4, 2.75))),
    )  # fmt: skip
    pelvis = measured(Layout("kidneys", "mm", 100.0, trunk, None, 22.0))["renal-pelvis"]
    assert (pelvis.high, pelvis.status) == (4.0, "high")
    assert measured(Layout("kidneys", "mm", 100.0, trunk, None, 30.0))["renal-pelvis"].status == "normal"
    assert "ac" in measured(Layout("abdomen", "mm", 100.0, trunk[:1], None, 22.0))


@pytest.mark.parametrize("plane", PLANES, ids=lambda p: p.name)
def test_every_plane_is_measured_without_an_error_even_where_all_is_tiny(plane: object) -> None:
    specks = tuple(LayoutObject.of(s, Ellipse((0.5, 0.5), (0.001, 0.001))) for s in plane.structures)  # type: ignore[attr-defined]
    for m in measured(Layout(plane.name, "image", 1.0, specks)).values():  # type: ignore[attr-defined]
        assert m.value is not None or m.note
