"""What a workspace has for the downstream study: real frames by group, and synthetic images."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fetalflex.artifacts import decode_png
from fetalflex.dataset import to_canvas
from fetalflex.downstream.data.anomalies import AnomalyTask, Material, Pairs, anomaly_task
from fetalflex.downstream.data.labelled import Images, Labelled, Names, no_images, of_cases
from fetalflex.downstream.data.planes import plane_task
from fetalflex.downstream.study import Study
from fetalflex.params import Params
from tasks.cases import read_cases, read_findings, read_synthetic


def read_study(root: Path, params: Params) -> Study:
    """Read everything that the trainings and detectors of `evaluate` use.

    Raises: TooFewCasesError where a task that is asked cannot be done; ArtifactError.
    """
    asked, cases, made = params.evaluate.tasks, read_cases(root, params), read_synthetic(root)
    groups = {name: of_cases(cases.of_group(name)) for name in ("train", "judge", "test")}
    normal = labelled_rows(made.filter(pl.col("kind") == "normal"), cases.size)
    planes = plane_task(groups["train"], normal, groups["test"], groups["judge"]) if "plane" in asked else None
    anomalies: AnomalyTask | None = None
    if "anomaly" in asked:
        abnormal = labelled_rows(made.filter(pl.col("kind") == "abnormal"), cases.size)
        found, planes_found = real_findings(read_findings(root, params), cases.size)
        anomalies = anomaly_task(
            Material(
                groups["train"], normal, abnormal, groups["judge"], groups["test"],
                found, planes_found, pairs_of(made, cases.size),
            )
        )  # fmt: skip
    return Study(params.evaluate, params.data.seed, planes, anomalies)


def labelled_rows(made: pl.DataFrame, side: int) -> Labelled:
    """Return synthetic images labelled by plane; the case that gave the layout stands for the patient."""
    if made.is_empty():
        return no_images(side)
    columns = (made[name].to_numpy().astype(np.str_) for name in ("plane", "source_case", "center"))
    return Labelled(_images(made["image"]), *columns)


def real_findings(rows: pl.DataFrame, side: int) -> tuple[Labelled, Names]:
    """Return real abnormal images labelled by finding, and their planes str [N]; patients are unique over centers."""
    if rows.is_empty():
        return no_images(side), np.zeros(0, np.str_)
    finding, center, patient, plane = (
        rows[name].to_numpy().astype(np.str_) for name in ("finding", "center", "patient", "plane")
    )
    images = np.stack([to_canvas(decode_png(picture["bytes"]), side) for picture in rows["image"]])
    return Labelled(images, finding, np.char.add(np.char.add(center, "/"), patient), center), plane


def pairs_of(made: pl.DataFrame, side: int) -> Pairs:
    """Return the counterfactual pairs of one anomaly each, ordered by pair."""
    normal = {row["pair_id"]: row for row in made.filter(pl.col("kind") == "pair-normal").iter_rows(named=True)}
    rows = [
        row
        for row in made.filter(pl.col("kind") == "pair-abnormal").sort("pair_id").iter_rows(named=True)
        if row["pair_id"] in normal
    ]

    def pictures(chosen: list[dict[str, Any]], column: str) -> Images:
        stack = [decode_png(row[column]["bytes"]) for row in chosen]
        return np.stack(stack) if stack else np.zeros((0, side, side), np.uint8)

    def text(values: list[str]) -> np.ndarray[Any, np.dtype[np.str_]]:
        return np.array(values, np.str_)

    return Pairs(
        normal=pictures([normal[row["pair_id"]] for row in rows], "image"),
        abnormal=pictures(rows, "image"),
        regions=pictures(rows, "region") > 127,
        anomalies=text(["+".join(n for n in (r["anomaly"], r["second_anomaly"]) if n) for r in rows]),
        planes=text([row["plane"] for row in rows]),
        cases=text([row["source_case"] for row in rows]),
        severities=np.array([row["severity"] for row in rows], np.float64),
        units=text([row["severity_unit"] or "" for row in rows]),
    )


def _images(column: pl.Series) -> Images:
    return np.stack([decode_png(picture["bytes"]) for picture in column])
