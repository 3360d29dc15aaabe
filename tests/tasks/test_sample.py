"""The plan of all images: a pure function of cases, parameters and seed."""

from pathlib import Path

import numpy as np
import pytest

from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index
from fetalflex.dataset import EXPERT, Cases
from fetalflex.errors import TooFewCasesError
from fetalflex.params import Params, parse
from tasks.sample import partner_id, plan_images
from tasks.stage import StageRun


def _run(**sample: object) -> StageRun:
    values = {"preset": "x", "ingest": {"centers": {"a": "frames"}}, "sample": sample}
    return StageRun("sample", Path(), Path(), parse(values, Params, "params.yaml"), "key", (), ())


@pytest.fixture
def brains() -> Cases:
    """Six heads of 90 mm with a ventricle of 7 mm on a canvas of 128 mm."""
    n, size = 6, 64
    y, x = np.mgrid[:size, :size]
    masks = np.zeros((n, len(STRUCTURE_NAMES), size, size), bool)
    masks[:, STRUCTURE_NAMES.index("head")] = ((x - 32) / 22) ** 2 + ((y - 32) / 18) ** 2 < 1
    masks[:, STRUCTURE_NAMES.index("lateral-ventricle")] = ((x - 36) / 8) ** 2 + ((y - 36) / 1.9) ** 2 < 1
    names = np.array([f"case{i:012d}" for i in range(n)])
    return Cases(
        ids=names, centers=np.array(["a"] * n), patients=names, groups=np.array(["train"] * n),
        images=np.zeros((n, size, size), np.uint8), masks=masks,
        sources=np.where(masks.any((2, 3)), EXPERT, 0).astype(np.uint8),
        confidences=np.ones(masks.shape[:2], np.float32), planes=np.full(n, plane_index("transventricular")),
        ages=np.full(n, 24, np.float32), spacings=np.full(n, 2.0, np.float32), valid=np.ones((n, size, size), bool),
        ignored=np.zeros((n, size, size), bool),
    )  # fmt: skip


def test_the_plan_is_the_same_every_time_and_counts_are_obeyed(brains: Cases) -> None:
    run = _run(normal=5, abnormal=3, pairs=2)
    first, second = list(plan_images(brains, run)), list(plan_images(brains, run))
    assert [p.kind for p in first] == ["normal"] * 5 + ["abnormal"] * 3 + ["pair-normal"] * 2
    assert [(p.image_id, p.layout.to_json(), p.severity) for p in first] == [
        (p.image_id, p.layout.to_json(), p.severity) for p in second
    ]
    ids = [p.image_id for p in first] + [partner_id(p.image_id) for p in first]
    assert len(set(ids)) == len(ids)


def test_more_images_leave_the_former_ones_as_they_were(brains: Cases) -> None:
    few = {p.image_id: p.layout.to_json() for p in plan_images(brains, _run(normal=3, abnormal=0, pairs=0))}
    many = {p.image_id: p.layout.to_json() for p in plan_images(brains, _run(normal=6, abnormal=0, pairs=0))}
    assert few.items() <= many.items()


def test_only_the_edited_layout_is_abnormal(brains: Cases) -> None:
    plan = list(plan_images(brains, _run(normal=4, abnormal=4, pairs=4)))
    for planned in plan:
        edited = any(o.edited for o in planned.layout.objects)
        assert edited == (planned.kind == "abnormal")
        if planned.kind == "pair-normal":
            assert planned.edited is not None
            assert [o.structure for o in planned.edited.objects if o.edited] == ["lateral-ventricle"]
        if planned.severity is not None:
            assert 12 <= planned.severity <= 18


def test_an_anomaly_that_no_case_can_show_is_an_error(brains: Cases) -> None:
    headless = Cases(**{**vars(brains), "sources": np.zeros_like(brains.sources)})
    with pytest.raises(TooFewCasesError, match="can show ventriculomegaly"):
        list(plan_images(headless, _run(normal=1, abnormal=1, pairs=0)))
