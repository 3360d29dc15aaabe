"""From the table of synthetic images and the judge's segmentation to one reading per image and anomaly."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.artifacts import picture
from fetalflex.planning import plan_images
from tasks.readings import asked_anomalies, real_readings, synthetic_readings
from tasks.sample import _changes
from tests.fetalflex.test_planning import BRAINS, SIZE, VENTRICULOMEGALY, params

KNOWN = ("head", "csp", "lateral-ventricle")
ANOMALIES = [VENTRICULOMEGALY, {"name": "absent-csp"}, {"together": ["ventriculomegaly", "absent-csp"]}]


def _rows() -> list[dict[str, Any]]:
    rows = []
    for planned in plan_images(BRAINS, params(normal=2, abnormal=3, pairs=2, anomalies=ANOMALIES)):
        pair = planned.image_id if planned.kind == "pair-normal" else None
        abnormal = planned.kind == "abnormal"
        base = {"pair_id": pair, "source_case": planned.source_case, "region": None, "layout_normal": None}
        base["image"] = picture(np.full((SIZE, SIZE), 80, np.uint8), "i")
        text = planned.normal.to_json()
        own = {"kind": planned.kind, "layout": planned.layout.to_json(), "layout_normal": text if abnormal else None}
        rows.append(base | own | _changes(planned if abnormal else None))
        if planned.kind == "pair-normal" and planned.abnormal is not None:
            region = picture(np.full((SIZE, SIZE), 255, np.uint8), "r")
            more = {"kind": "pair-abnormal", "region": region, "layout": planned.abnormal.to_json()}
            rows.append(base | more | {"layout_normal": text} | _changes(planned))
    return rows


TABLE = pl.DataFrame(_rows(), infer_schema_length=None)
PERFECT = np.stack([rasterize(Layout.from_json(text), SIZE).maps > 0.5 for text in TABLE["layout"]])


def test_a_perfect_judge_reads_what_was_asked_and_nothing_in_normal_images() -> None:
    readings, columns = synthetic_readings(TABLE, PERFECT, KNOWN)
    abnormal = [r for r in readings if np.isfinite(r.asked)]
    assert len(abnormal) == 3 + 2 + sum(TABLE["second_anomaly"].is_not_null())
    for reading in abnormal:
        assert reading.measured == pytest.approx(reading.asked, abs=2.6)
    pairs = [r for r in abnormal if np.isfinite(r.change)]
    assert len(pairs) >= 2
    assert all(r.grey == r.grey_before == 1.0 for r in pairs)  # flat images: nothing darker anywhere
    assert all(np.isnan(r.grey_before) for r in abnormal if r not in pairs)
    assert all(r.change == 1.0 and r.outside == 0.0 for r in pairs)
    normal = [r for r in readings if not np.isfinite(r.asked)]
    assert {r.anomaly for r in normal} == {"ventriculomegaly", "absent-csp"}
    assert len(normal) == 2 * 4
    assert all(r.measured < 10 if r.anomaly == "ventriculomegaly" else r.measured == 0 for r in normal)
    assert columns.height == TABLE.height
    assert columns["anomaly"].to_list() == TABLE["anomaly"].to_list()
    assert columns["second_anomaly"].to_list() == TABLE["second_anomaly"].to_list()
    assert columns.filter(pl.col("anomaly").is_null())["measured_severity"].is_null().all()


def test_what_the_judge_does_not_know_is_not_measured() -> None:
    readings, columns = synthetic_readings(TABLE, PERFECT, ("head",))
    assert not [r for r in readings if np.isfinite(r.measured)]
    assert columns["measured_severity"].is_null().all()


def test_the_judge_is_measured_on_real_images_against_the_experts() -> None:
    assert asked_anomalies(TABLE) == ["absent-csp", "ventriculomegaly"]
    perfect = real_readings(BRAINS, BRAINS.masks, ["ventriculomegaly", "double-bubble"], KNOWN)
    assert len(perfect) == len(BRAINS)
    assert all(r.measured == pytest.approx(r.asked, abs=1e-9) for r in perfect)
    blind = real_readings(BRAINS, np.zeros_like(BRAINS.masks), ["ventriculomegaly"], KNOWN)
    assert all(np.isnan(r.measured) and np.isfinite(r.asked) for r in blind)
