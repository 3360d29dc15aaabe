"""Three disjoint groups of patients, fixed by hash: train, judge and test.

A patient's own group depends on (seed, center, patient) alone, so data that is added later moves nobody, but for
patients whom a shared image ties together: they are one cluster and share one group.
"""

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fetalflex.errors import TooFewCasesError
from fetalflex.rng import derive_seed
from fetalflex.tables import GROUPS, Duplicates, Splits

# The first that a cluster touches is the cluster's: what touches test is test, and leaves training.
PRECEDENCE = ("test", "judge", "train")
LINKS = ("exact", "near")  # the stronger first


def assign_groups(
    frames: pl.DataFrame,
    seed: int,
    test_fraction: float,
    judge_fraction: float,
    duplicates: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return a table `tables.Splits` for frames (columns case_id, center, patient, pixels).

    Patients, of one center or of several, with a frame of equal `pixels`, or with frames that `duplicates` (schema
    `tables.Duplicates`) calls one picture, form a cluster; the cluster is test where any member's own hash says test,
    else judge where any says judge, else train. `moved_from` keeps the member's own group where the cluster's is
    another. `cluster` is the smallest "center/patient" of its members.
    Raises: TooFewCasesError where there is no frame.
    """
    if frames.is_empty():
        raise TooFewCasesError("there are no frames to split; ingest a center first")
    patients = frames.select("center", "patient").unique().sort("center", "patient")
    ties = _ties(frames, patients, Duplicates.create_empty() if duplicates is None else duplicates)
    labels = _clusters(ties, len(patients))
    own = [own_group(center, patient, seed, test_fraction, judge_fraction) for center, patient in patients.iter_rows()]
    table = (
        patients.with_columns(
            pl.Series("own", own, pl.String),
            pl.Series("label", labels),
            pl.Series("tied_by", _tied_by(ties, len(patients)), pl.String),
            pl.concat_str("center", "patient", separator="/").alias("name"),
        )
        .with_columns(
            pl.col("name").min().over("label").alias("cluster"),
            pl.col("own").replace_strict({g: i for i, g in enumerate(PRECEDENCE)}).min().over("label").alias("rank"),
        )
        .with_columns(pl.col("rank").replace_strict(dict(enumerate(PRECEDENCE))).alias("group"))
        .with_columns(pl.when(pl.col("own") != pl.col("group")).then("own").otherwise(None).alias("moved_from"))
    )
    kinds = pl.Enum(list(GROUPS))
    joined = frames.select("case_id", "center", "patient").join(table, on=["center", "patient"], how="left")
    joined = joined.with_columns(
        pl.col("group").cast(kinds), pl.col("moved_from").cast(kinds), pl.col("tied_by").cast(pl.Enum(LINKS))
    )
    return Splits.validate(joined.select(list(Splits.create_empty().schema)).sort("case_id"), cast=True)


def own_group(center: str, patient: str, seed: int, test_fraction: float, judge_fraction: float) -> str:
    """Return the group that a patient's own hash gives: a number in [0, 1) against the two thresholds."""
    place = derive_seed(seed, "group", center, patient) / 2**63
    return "test" if place < test_fraction else "judge" if place < test_fraction + judge_fraction else "train"


def _ties(frames: pl.DataFrame, patients: pl.DataFrame, duplicates: pl.DataFrame) -> pl.DataFrame:
    """Return the edges between different patients: columns left, right (positions in `patients`), kind."""
    numbers = patients.with_row_index("number")
    cases = frames.select("case_id", "center", "patient", "pixels").join(numbers, on=["center", "patient"])
    # Each set of equal pixels is a star around its first patient.
    equal = cases.select(
        left=pl.col("number").min().over("pixels"), right=pl.col("number"), kind=pl.lit("exact", pl.String)
    )
    place = cases.select("case_id", "number")
    named = duplicates.join(place, left_on="case_a", right_on="case_id").join(
        place, left_on="case_b", right_on="case_id", suffix="_b"
    )
    listed = named.select(left=pl.col("number"), right=pl.col("number_b"), kind=pl.col("kind").cast(pl.String))
    return pl.concat([equal, listed]).filter(pl.col("left") != pl.col("right"))


def _clusters(ties: pl.DataFrame, patients: int) -> list[int]:
    """Return a label per patient: the connected component of the graph of ties."""
    rows, columns = ties["left"].to_numpy(), ties["right"].to_numpy()
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(patients, patients))
    _, labels = connected_components(graph, directed=False)
    return [int(v) for v in labels]


def _tied_by(ties: pl.DataFrame, patients: int) -> list[str | None]:
    """Return the strongest link of each patient to another one, or None."""
    found: list[str | None] = [None] * patients
    for kind in reversed(LINKS):
        edges = ties.filter(pl.col("kind") == kind)
        for number in {*edges["left"], *edges["right"]}:
            found[number] = kind
    return found
