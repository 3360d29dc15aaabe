"""What the page notes of a center: marks, copies, ties, moves."""

import polars as pl

from fetalflex.ingest.duplicates import find_duplicates
from fetalflex.splits import assign_groups
from tasks.report import _noted
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
