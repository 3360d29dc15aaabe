import pytest

from fetalflex.downstream.protocol import TrainingSpec, expected_seconds, plan
from fetalflex.errors import ParameterError
from fetalflex.params import parse
from fetalflex.params_evaluate import ARMS, Evaluate


def test_the_full_protocol_has_the_trainings_that_it_states():
    full = Evaluate(arms=ARMS, seeds=5, few_shot=(0.1, 0.25, 0.5), few_shot_seeds=3)
    trainings = plan(full)
    assert len(trainings) == len(set(trainings)) == len({t.name for t in trainings}) == 240 + 108
    assert len(plan(full.model_copy(update={"leave_center_seeds": 2}), ("a", "b"))) == 348 + 6 * 2 * 2 * 2


def test_the_main_share_is_no_second_few_shot_point():
    params = Evaluate(models=("resnet",), tasks=("plane",), few_shot=(0.5, 1.0), few_shot_seeds=1, seeds=1)
    assert {t.shots for t in plan(params)} == {0.5, 1.0}
    assert len(plan(params)) == 3 + 2


def test_controls_are_of_the_plane_task_alone():
    arms = ("real", "real+synthetic", "real+unseen", "real+noise")
    found = plan(Evaluate(models=("resnet",), arms=arms, seeds=1))
    assert {t.arm for t in found if t.task == "anomaly"} == {"real", "real+synthetic"}
    assert {t.arm for t in found if t.task == "plane"} == set(arms)


def test_time_grows_with_steps_and_falls_with_workers():
    params = Evaluate(models=("resnet",), batch_size=2, steps=1000)
    trainings = [TrainingSpec("plane", "resnet", "real", 0)] * 4
    one = expected_seconds(trainings, params, 32, 1)
    assert 0 < one < 600
    assert expected_seconds(trainings, params.model_copy(update={"steps": 1}), 32, 1) < one / 20


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arms": ["real"]}, "must hold real and real"),
        ({"models": ["resnet", "resnet"]}, "names something twice"),
        ({"more_ratios": [1.0]}, "the ratio 1 itself"),
        ({"anomaly_test": "kind"}, "paired_auc needs anomaly_test pairs"),
        ({"pretrained": {"densenet": "x"}}, "densenet has no pretrained"),
    ],
)
def test_impossible_protocols_are_refused(changes, told):
    with pytest.raises(ParameterError, match=told):
        parse(changes, Evaluate, "params.yaml")
