"""What the page notes of a center: marks, copies, ties, moves."""

import polars as pl

from fetalflex.ingest.duplicates import find_duplicates
from fetalflex.splits import assign_groups
from tasks.report import _noted, _spread, _told_measured, anomaly_views, told
from tests.fetalflex.ingest.pictures import frames, head, jpeg


def test_marks_copies_and_ties_of_a_center_are_counted() -> None:
    rows = [
        ("north", "1", head(1)), ("north", "1", head(1)), ("north", "2", jpeg(head(1))),
        ("north", "3", head(2)), ("south", "9", head(2)), ("south", "8", head(3)),
    ]  # fmt: skip
    table = frames(rows).with_columns(marks=pl.lit("[]"))
    marked = pl.when(pl.col("case_id") == "case-" + f"{3:016}").then(pl.lit('[{"kind": "text", "box": [1, 1, 5, 5]}]'))
    table = table.with_columns(marks=marked.otherwise(pl.col("marks")))
    duplicates = find_duplicates(table)
    splits = assign_groups(table, 7, 0.2, 0.25, duplicates)
    here = table.filter(pl.col("center") == "north")
    noted = _noted(here, splits.filter(pl.col("center") == "north"), duplicates)
    moved = noted.pop("patient moved to another group")
    assert noted == {
        "image with marks": 1,
        "copy within one patient": 1,
        "patient tied by equal pictures": 1,
        "patient tied by nearly equal pictures": 2,
    }
    assert moved == splits.filter(pl.col("center") == "north").unique("patient")["moved_from"].count()


def _row(**more: object) -> dict[str, object]:
    blank = {f"{p}{k}": None for p in ("", "second_") for k in ("anomaly", "severity", "severity_unit")}
    return blank | {"kind": "abnormal"} | more


def test_anomalies_are_told_as_people_do() -> None:
    one = _row(anomaly="microcephaly", severity=-4.2, severity_unit="SD")
    two = one | {"second_anomaly": "absent-csp", "second_severity": 1.0, "second_severity_unit": "present"}
    assert told(_row()) == ""
    assert told(one) == "microcephaly \u22124.2 SD"
    assert told(two) == "microcephaly \u22124.2 SD + absent-csp"
    scores = {"measured_severity": -3.987, "second_measured_severity": 0.0}
    assert _told_measured(two, scores) == "measures \u22123.99 SD and not found"
    assert _told_measured(two, None) == ""


def test_images_of_each_anomaly_are_counted_with_their_range() -> None:
    rows = [
        _row(anomaly="ventriculomegaly", severity=12.0, severity_unit="mm"),
        _row(kind="pair-abnormal", anomaly="ventriculomegaly", severity=15.5, severity_unit="mm")
        | {"second_anomaly": "absent-csp", "second_severity": 1.0, "second_severity_unit": "present"},
        _row(kind="normal"),
    ]  # fmt: skip
    found = anomaly_views(pl.DataFrame(rows, infer_schema_length=None))
    assert [(v.name, v.single, v.pairs, v.severities) for v in found] == [
        ("ventriculomegaly", 1, 1, "12 to 15.5 mm"),
        ("absent-csp", 0, 1, "there or not"),
    ]


def test_no_anomaly_hides_the_others_on_the_page() -> None:
    wide = [_row(anomaly="ventriculomegaly", plane="a", center="c") for _ in range(9)]
    short = _row(anomaly="short-femur", plane="f", center="c")
    normal = _row(kind="normal", plane="f", center="c")
    shown = _spread([*wide, short, normal], 3)
    assert {r["anomaly"] for r in shown} == {None, "short-femur", "ventriculomegaly"}
