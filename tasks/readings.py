"""Anomalies measured on the judge's segmentation: of synthetic images, abnormal and normal, and of real test images."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from fetalflex.anatomy.editing import setting_of
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.artifacts import decode_png
from fetalflex.dataset import EXPERT, Cases
from fetalflex.errors import AnomalyError
from fetalflex.planning import can_show
from fetalflex.quality.anomalies import (
    Masks,
    Reading,
    change_seen,
    grey_ratio,
    is_known,
    measure_seen,
    place_of,
    seen_layout,
)

PREFIXES = ("", "second_")
Row = dict[str, Any]


def asked_anomalies(table: pl.DataFrame) -> list[str]:
    """Return the anomalies that a table of synthetic images holds."""
    columns = [table[f"{prefix}anomaly"].drop_nulls() for prefix in PREFIXES]
    return sorted({name for column in columns for name in column})


def synthetic_readings(table: pl.DataFrame, seen: Masks, known: Iterable[str]) -> tuple[list[Reading], pl.DataFrame]:
    """Return every reading, and the columns of the scores: what was measured of each image's own anomalies.

    seen: bool [N, K, S, S], the judge's segmentation in the table's order.
    """
    known = tuple(known)
    names = asked_anomalies(table)
    rows = list(table.iter_rows(named=True))
    first = {row["pair_id"]: i for i, row in enumerate(rows) if row["kind"] == "pair-normal"}
    readings: list[Reading] = []
    columns: list[Row] = []
    for i, row in enumerate(rows):
        before = None if row["kind"] != "pair-abnormal" else first.get(row["pair_id"])
        own = _abnormal(row, seen[i], None if before is None else seen[before], known)
        own = [_with_grey(r, row, None if before is None else rows[before]) for r in own]
        readings += own or [_normal(row, name, seen[i], known) for name in names if _could_show(row, name)]
        columns.append(
            {
                f"{prefix}{key}": value
                for prefix, reading in zip(PREFIXES, [*own, None, None], strict=False)
                for key, value in _scored(reading).items()
            }
        )
    kinds = {f"{p}anomaly": pl.String for p in PREFIXES} | {f"{p}measured_severity": pl.Float64 for p in PREFIXES}
    return readings, pl.DataFrame(columns, schema=kinds)


def _scored(reading: Reading | None) -> Row:
    measured = None if reading is None or not np.isfinite(reading.measured) else round(reading.measured, 6)
    return {"anomaly": None if reading is None else reading.anomaly, "measured_severity": measured}


def _could_show(row: Row, name: str) -> bool:
    return row["layout_normal"] is None and can_show(Layout.from_json(row["layout"]), [name])


def _normal(row: Row, name: str, seen: Masks, known: tuple[str, ...]) -> Reading:
    layout = Layout.from_json(row["layout"])
    return Reading(name, row["source_case"], float("nan"), _measured(name, seen, layout, known))


def _abnormal(row: Row, seen: Masks, before: Masks | None, known: tuple[str, ...]) -> list[Reading]:
    """Return the readings of an image's own anomalies; of a pair's second half with what changed."""
    if row["layout_normal"] is None:
        return []
    normal = Layout.from_json(row["layout_normal"])
    found = []
    for prefix in PREFIXES:
        if (name := row[f"{prefix}anomaly"]) is not None:
            measured = _measured(name, seen, normal, known)
            found.append(Reading(name, row["source_case"], row[f"{prefix}severity"], measured))
    if before is None or row["region"] is None or not known:
        return found
    channels = [structure_index(name) for name in known]
    size = seen.shape[-1]
    maps = [rasterize(layout, size).maps[channels] > 0.5 for layout in (normal, Layout.from_json(row["layout"]))]
    region = decode_png(row["region"]["bytes"]) > 127
    change, outside = change_seen(before[channels], seen[channels], maps[0] != maps[1], region)
    return [replace(r, change=change, outside=outside) for r in found]


def _with_grey(reading: Reading, row: Row, before: Row | None) -> Reading:
    """Return the reading with the grey at the anomaly's place, in the image and in the pair's normal half."""
    normal, abnormal = Layout.from_json(row["layout_normal"]), Layout.from_json(row["layout"])
    pixels = decode_png(row["image"]["bytes"])
    place = place_of(reading.anomaly, normal, abnormal, pixels.shape[0])
    was = float("nan") if before is None else grey_ratio(decode_png(before["image"]["bytes"]), place)
    return replace(reading, grey=grey_ratio(pixels, place), grey_before=was)


def _measured(name: str, seen: Masks, normal: Layout, known: tuple[str, ...]) -> float:
    if not is_known(name, known):
        return float("nan")
    return measure_seen(name, seen_layout(seen, normal, known), setting_of(normal))


def real_readings(test: Cases, seen: Masks, names: Iterable[str], known: Iterable[str]) -> list[Reading]:
    """Return how the judge measures real test images, beside the experts' masks of all structures that it takes."""
    known = tuple(known)
    wanted = [name for name in names if is_known(name, known)]
    experts = replace(test, sources=np.where(test.sources == EXPERT, EXPERT, 0).astype(test.sources.dtype))
    readings: list[Reading] = []
    for i in range(len(test)):
        layout = experts.layout(i)
        for name in wanted:
            truth = _truth(name, layout)
            if np.isfinite(truth):
                readings.append(Reading(name, str(test.ids[i]), truth, _measured(name, seen[i], layout, known)))
    return readings


def _truth(name: str, layout: Layout) -> float:
    if not can_show(layout, [name]):
        return float("nan")
    try:
        return measure_seen(name, layout, setting_of(layout))
    except AnomalyError:  # an anatomy that does not tell its size
        return float("nan")
