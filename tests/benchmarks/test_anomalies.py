import numpy as np
import pytest

from benchmarks.anomalies import anomaly, away_from, readings_of, request
from fetalflex.anatomy.layout import rasterize
from fetalflex.planning import plan_images
from tests.fetalflex.test_planning import BRAINS, SIZE, params

KNOWN = ("head", "csp", "lateral-ventricle")
ENTRIES = [anomaly("ventriculomegaly:12:18"), anomaly("absent-csp")]
PLAN = list(plan_images(BRAINS, params(normal=2, abnormal=4, pairs=0, anomalies=ENTRIES)))


def test_an_anomaly_is_given_with_its_range_or_without() -> None:
    assert anomaly("absent-csp") == {"name": "absent-csp"}
    assert anomaly("microcephaly:-5:-3") == {"name": "microcephaly", "severity": [-5.0, -3.0]}


def test_arms_differ_only_in_what_the_guidance_points_away_from() -> None:
    for planned in PLAN:
        requests = {arm: request(arm, planned) for arm in ("null", "absent", "normal")}
        assert len({(r.image_id, r.layout.to_json()) for r in requests.values()}) == 1
        assert requests["null"].avoided is None
        assert (requests["normal"].avoided is not None) == bool(planned.changes)
        assert (requests["absent"].avoided is not None) == bool(planned.layout.absent)
        assert away_from("absent", planned) == bool(planned.layout.absent)


def test_a_perfect_judge_reads_what_was_planned() -> None:
    seen = np.stack([rasterize(p.layout, SIZE).maps > 0.5 for p in PLAN])
    readings = readings_of(PLAN, seen, ["ventriculomegaly", "absent-csp"], KNOWN)
    assert len(readings) == 2 * 2 + 4
    for reading in readings:
        if np.isfinite(reading.asked):
            assert reading.measured == pytest.approx(reading.asked, abs=2.6)
