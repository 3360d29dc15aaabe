"""What the evaluation reads of a workspace."""

import numpy as np
import polars as pl

from fetalflex.artifacts import picture
from tasks.downstream import labelled_rows, pairs_of

SIDE = 32


def test_pairs_are_the_two_halves_in_one_order() -> None:
    def row(pair: str, kind: str, grey: int) -> dict:
        image = picture(np.full((SIDE, SIDE), grey, np.uint8), kind)
        half = kind == "pair-abnormal"
        return {
            "pair_id": pair, "kind": kind, "image": image, "region": image if half else None, "plane": "femur",
            "source_case": f"c{pair}", "center": "a", "anomaly": "short-femur" if half else None,
            "second_anomaly": None, "severity": -4.0 if half else None, "severity_unit": "SD" if half else None,
        }  # fmt: skip

    rows = [row("b", "pair-abnormal", 200), row("a", "pair-normal", 10), row("a", "pair-abnormal", 180)]
    rows += [row("b", "pair-normal", 20), row("c", "pair-normal", 30)]
    made = pl.DataFrame(rows)
    pairs = pairs_of(made, SIDE)
    assert pairs.normal[:, 0, 0].tolist() == [10, 20]
    assert pairs.abnormal[:, 0, 0].tolist() == [180, 200]
    assert pairs.regions.all()
    assert pairs.cases.tolist() == ["ca", "cb"]
    assert len(pairs_of(made.filter(pl.col("kind") == "normal"), SIDE)) == 0
    assert labelled_rows(made.filter(pl.col("kind") == "pair-normal"), SIDE).patients.tolist() == ["ca", "cb", "cc"]
