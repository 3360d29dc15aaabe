import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from fetalflex.downstream.comparison import accuracy, macro_f1, summarise, verdict_of
from fetalflex.downstream.protocol import Labelled, PlaneTask, TrainingResult, TrainingSpec
from fetalflex.errors import TooFewCasesError
from fetalflex.quality.bootstrap import Interval
from fetalflex.rng import generator

N, CLASSES = 120, ("abdomen", "femur", "thorax")
TRUTH = generator(1).integers(0, 3, N)


def task():
    empty = Labelled(np.zeros((4, 8, 8), np.uint8), np.array(["femur"] * 4), np.array(list("abcd")))
    planes = np.array([CLASSES[i] for i in TRUTH])
    patients = np.array([f"t{i // 2}" for i in range(N)])
    return PlaneTask(CLASSES, empty, empty, Labelled(np.zeros((N, 8, 8), np.uint8), planes, patients), ())


def result(arm, repeat, correct, model="resnet"):
    rng = generator(2, arm, repeat)
    wrong = rng.random(N) >= correct
    return TrainingResult(TrainingSpec(model, arm, repeat), tuple(int(v) for v in (TRUTH + wrong) % 3), (1.0,))


def both(real, mixed):
    return [result("real", i, real) for i in range(2)] + [result("real+synthetic", i, mixed) for i in range(2)]


def test_metrics_equal_scikit_learn():
    found = np.array(result("real", 0, 0.7).predictions)
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (TRUTH, found), 1)
    assert accuracy(matrix) == pytest.approx(accuracy_score(TRUTH, found))
    assert macro_f1(matrix) == pytest.approx(f1_score(TRUTH, found, average="macro"))


def test_a_class_that_is_absent_does_not_count():
    assert macro_f1(np.array([[4, 0, 0], [0, 4, 0], [0, 0, 0]])) == 1.0


@pytest.mark.parametrize(
    ("real", "mixed", "verdict"), [(0.6, 0.9, "helps"), (0.9, 0.6, "harms"), (0.8, 0.8, "no difference shown")]
)
def test_the_verdict_follows_the_interval_of_the_difference(real, mixed, verdict):
    report = summarise(both(real, mixed), task(), bootstrap=200, seed=1)
    for row in report["results"]:
        assert row["low"] <= row["value"] <= row["high"]
        assert (row["n"], row["seeds"], row["task"]) == (N, 2, "plane")
        assert row["verdict"] == (verdict if row["arm"] == "real+synthetic" else None)
    assert {(r["metric"], r["arm"]) for r in report["results"]} == {
        (m, a) for m in ("accuracy", "macro_f1") for a in ("real", "real+synthetic")
    }


def test_equal_predictions_differ_by_nothing():
    same = [TrainingResult(TrainingSpec("resnet", a, 0), tuple(TRUTH.tolist()), ()) for a in ("real", "real+synthetic")]
    row = summarise(same, task(), bootstrap=50, seed=1)["results"][1]
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (0, 0, 0)
    assert row["verdict"] == "no difference shown"


def test_the_report_is_json_and_depends_on_the_seed_alone():
    one, two = (summarise(both(0.7, 0.8), task(), bootstrap=30, seed=4) for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(two)
    assert np.sum(one["confusion"]["resnet"]["real"]) == 2 * N
    assert one["test"] == {"images": N, "patients": N // 2}


def test_unequal_arms_are_refused():
    with pytest.raises(TooFewCasesError, match="unequal numbers"):
        summarise(both(0.7, 0.8)[:3], task(), bootstrap=5, seed=1)


def test_zero_inside_the_interval_shows_nothing():
    assert verdict_of(Interval(0.1, -0.01, 0.2)) == "no difference shown"
