import json

import numpy as np
import pytest

from fetalflex.downstream.data.anomalies import anomaly_task
from fetalflex.downstream.data.labelled import class_numbers
from fetalflex.downstream.data.planes import plane_task
from fetalflex.downstream.statistics.anomaly_results import contrasts, localise, threshold
from fetalflex.downstream.statistics.summary import downstream_report
from fetalflex.downstream.study import SETS, Study, image_sets
from fetalflex.errors import TooFewCasesError
from fetalflex.params_evaluate import Evaluate
from fetalflex.rng import generator
from tests.fetalflex.downstream.made import labelled, material

PARAMS = Evaluate(models=("resnet", "vit"), seeds=3, bootstrap=800, few_shot=(0.5,), few_shot_seeds=2,
                  leave_center_seeds=1)  # fmt: skip
PLANES = plane_task(labelled(24, "r"), labelled(24, "s"), labelled(120, "t"), labelled(6, "j"))
STUDY = Study(PARAMS, 1, PLANES, anomaly_task(material()))
ROW = {"model", "task", "test", "arm", "metric", "value", "low", "high", "n", "seeds", "verdict", "against"}


def said(spec, right, study=STUDY):
    """Return an outcome that is right in a share of the test images, or whose abnormal scores lie higher by `right`."""
    rng = generator(5, spec.name)
    if spec.task == "plane":
        positions = np.nonzero(PLANES.test.centers == spec.without if spec.without else np.ones(120, bool))[0]
        truth = class_numbers(PLANES.test.labels, PLANES.classes)[positions]
        found = np.where(rng.random(len(truth)) < right, truth, (truth + 1) % 3)
        return {"probabilities": np.eye(3)[found] * 0.8 + 0.1, "positions": positions}
    return {name: rng.normal(right if "abnormal" in name else 0, 1, len(images))
            for name, images in image_sets(study.anomalies).items()}  # fmt: skip


def outcomes(real, mixed, anomaly=(0.0, 3.0)):
    levels = {"plane": {"real": real}, "anomaly": {"real": anomaly[0]}}
    other = {"plane": mixed, "anomaly": anomaly[1]}
    return {s: said(s, levels[s.task].get(s.arm, other[s.task])) for s in STUDY.trainings()}


def verdicts(report, task):
    return {row["verdict"] for row in report["verdicts"] if row["task"] == task}


@pytest.mark.parametrize(
    ("real", "mixed", "verdict"), [(0.55, 0.95, "helps"), (0.95, 0.55, "harms"), (0.8, 0.8, "no difference shown")]
)
def test_the_verdict_follows_the_corrected_difference(real, mixed, verdict):
    report = downstream_report(STUDY, outcomes(real, mixed), {})
    assert verdicts(report, "plane") == {verdict}
    for row in report["results"]:
        assert set(row) >= ROW
        assert row["low"] <= row["value"] <= row["high"]
    assert all(row["n"] == 120 and row["seeds"] == 3 for row in report["results"] if row["test"] == "all")


def test_there_is_one_verdict_per_model_and_task_corrected_together():
    report = downstream_report(STUDY, outcomes(0.7, 0.72), {})
    assert len(report["verdicts"]) == 4
    raw = {(r["model"], r["task"]): r["p"] for r in report["results"] if r["primary"]}
    for row in report["verdicts"]:
        assert row["p_corrected"] >= raw[row["model"], row["task"]]
    assert min(raw.values()) * 4 == pytest.approx(min(row["p_corrected"] for row in report["verdicts"]))


def test_better_calibration_is_a_smaller_error():
    rows = downstream_report(STUDY, outcomes(0.5, 0.9), {})["results"]
    row = next(r for r in rows if r["metric"] == "ece" and r["arm"] == "real+synthetic" and r["against"] == "real")
    assert row["difference"] < 0
    assert row["verdict"] == "helps"


def test_the_report_is_json_and_depends_on_the_seed_alone():
    found = outcomes(0.7, 0.8)
    one, two = (downstream_report(STUDY, found, {"neighbours": said(STUDY.trainings()[-1], 2.0)}) for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(two)
    assert np.sum(one["confusion"]["resnet"]["real"]) == 3 * 120
    assert {row["shots"] for row in one["few_shot"]} == {0.5, 1.0}
    assert {row["center"] for row in one["left_center"]} == {"c0", "c1"}
    assert {row["class"] for row in one["by_class"]} == set(PLANES.classes)


def test_unequal_arms_are_refused():
    found = outcomes(0.7, 0.8)
    gone = next(s for s in found if s.task == "plane" and s.arm == "real")
    with pytest.raises(TooFewCasesError, match="unequal numbers"):
        downstream_report(STUDY, {s: o for s, o in found.items() if s != gone}, {})


def test_tests_within_one_source_compare_abnormal_images_with_each_other():
    tests = {t.name: t for t in contrasts(STUDY.anomalies)}
    assert list(tests) == ["severity", "kind", "pairs", "source"]
    for name in ("severity", "kind"):
        assert tests[name].negatives[0] == tests[name].positives[0] == "abnormal"
    labels = STUDY.anomalies.abnormal.labels
    assert set(labels[tests["severity"].negatives[1]]) == {"mild-ventriculomegaly"}
    assert set(labels[tests["severity"].positives[1]]) == {"severe-ventriculomegaly"}
    assert set(labels[tests["kind"].negatives[1]]) == {"chiari"}


def test_a_pre_registered_test_without_images_has_no_verdict_and_says_so():
    params = PARAMS.model_copy(update={"anomaly_test": "severity", "anomaly_metric": "auc"})
    bare = anomaly_task(material(abnormal=labelled(0, "none"), abnormal_planes=np.zeros(0, str)))
    study = Study(params, 1, None, bare)
    found = {s: said(s, 1.0, study) for s in study.trainings() if s.task == "anomaly"}
    report = downstream_report(study, found, {})
    assert report["verdicts"] == []
    assert "'severity' could not be done" in report["missing"][0]


def test_thresholds_come_from_calibration_images_alone():
    outcome = said(STUDY.trainings()[-1], 1.0)
    before = threshold(outcome)
    for name in SETS[1:]:
        outcome[name] = outcome[name] + 100
    assert threshold(outcome) == before
    assert np.mean(outcome["calibration"] > before) == pytest.approx(0.05, abs=0.12)  # one of six


def test_perfect_heat_points_and_overlaps_and_random_heat_is_at_chance():
    regions = STUDY.anomalies.pairs.regions
    perfect = localise(regions.astype(np.float16), regions)
    assert (perfect["pointing"], perfect["dice"]) == (1.0, 1.0)
    assert perfect["low"] < 0.7
    noise = localise(generator(1).random((8, 32, 32)), regions)
    assert noise["dice"] == pytest.approx(noise["dice_chance"], abs=0.05)
