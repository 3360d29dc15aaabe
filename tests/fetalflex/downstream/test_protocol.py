import numpy as np
import pytest
import torch

from fetalflex.downstream.protocol import (
    Labelled,
    StepLog,
    TrainingSpec,
    augment,
    plane_task,
    specs,
    train_and_test,
    train_steps,
)
from fetalflex.errors import TooFewCasesError
from fetalflex.params import Evaluate
from fetalflex.rng import generator

PARAMS = Evaluate(models=("resnet",), seeds=1, steps=25, batch_size=16)


def labelled(counts, prefix, seed=0, side=32):
    """Femurs are bright bars, abdomens bright disks, brains rings."""
    rng = generator(seed, prefix)
    y, x = np.mgrid[:side, :side] - side / 2
    r = np.hypot(x, y)
    shapes = {"femur": np.abs(y) < 3, "abdomen": r < 9, "transventricular": np.abs(r - 10) < 2}
    images, planes = [], []
    for plane, count in counts.items():
        shape = shapes.get(plane, shapes["transventricular"])
        for _ in range(count):
            images.append((shape * 150 + rng.uniform(0, 100, (side, side))).astype(np.uint8))
            planes.append(plane)
    patients = [f"{prefix}{i // 2}" for i in range(len(planes))]
    return Labelled(np.array(images).reshape(-1, side, side), np.array(planes, str), np.array(patients, str))


COUNTS = {"abdomen": 12, "femur": 12}
TASK = plane_task(labelled(COUNTS, "r"), labelled(COUNTS, "s"), labelled(COUNTS, "t"))


def test_learns_what_can_be_learnt_and_depends_on_the_seed_alone():
    spec = TrainingSpec("resnet", "real+synthetic", 0)
    result = train_and_test(spec, TASK, PARAMS, 3)
    truth = [TASK.classes.index(p) for p in TASK.test.planes]
    assert np.mean(np.array(result.predictions) == truth) > 0.9
    assert result == train_and_test(spec, TASK, PARAMS, 3)
    assert result.losses != train_and_test(spec, TASK, PARAMS, 4).losses


def test_training_yields_every_step():
    logs = list(train_steps(TrainingSpec("densenet", "real", 0), TASK, Evaluate(steps=3, batch_size=4), 1))
    assert [log.step for log in logs] == [0, 1, 2]
    assert all(isinstance(log, StepLog) and np.isfinite(log.loss) for log in logs)


def test_arms_differ_in_content_only():
    first = {}
    for arm in ("real", "real+synthetic"):
        result = train_and_test(TrainingSpec("resnet", arm, 0), TASK, Evaluate(steps=4, batch_size=4), 1)
        first[arm] = result.losses
    assert len(first["real"]) == len(first["real+synthetic"]) == 4
    assert first["real"] != first["real+synthetic"]


def test_every_model_arm_and_repeat_is_one_training():
    found = specs(Evaluate(seeds=2))
    assert len(found) == len(set(found)) == 8


def test_planes_with_too_few_test_images_are_left_out_and_named():
    test = labelled(COUNTS | {"transventricular": 4}, "t")
    task = plane_task(labelled(COUNTS | {"transventricular": 9}, "r"), labelled(COUNTS, "s"), test)
    assert task.classes == ("abdomen", "femur")
    assert task.left_out == ({"plane": "transventricular", "test": 4, "patients": 2, "train": 9},)
    assert "transventricular" not in set(task.real.planes) | set(task.test.planes)


def test_stated_planes_join_the_unstated_one_of_another_center():
    real = labelled({"transventricular": 6, "brain": 6, "femur": 6}, "r")
    task = plane_task(real, labelled({"transthalamic": 4}, "s"), labelled({"brain": 6, "femur": 6}, "t"))
    assert task.classes == ("brain", "femur")
    assert (task.real.planes == "brain").sum() == 12
    assert set(task.synthetic.planes) == {"brain"}


def test_a_test_patient_in_training_is_refused():
    with pytest.raises(TooFewCasesError, match="test patients are also in training"):
        plane_task(labelled(COUNTS, "r"), labelled(COUNTS, "s"), labelled(COUNTS, "r"))


def test_one_plane_is_no_task():
    one = {"femur": 12}
    with pytest.raises(TooFewCasesError, match="expected at least 2"):
        plane_task(labelled(one, "r"), labelled(one, "s"), labelled(one, "t"))


def test_no_synthetic_images_leave_the_arms_equal_in_content():
    task = plane_task(labelled(COUNTS, "r"), labelled({}, "s"), labelled(COUNTS, "t"))
    quick = Evaluate(steps=2, batch_size=4)
    real, both = (train_and_test(TrainingSpec("resnet", a, 0), task, quick, 1) for a in ("real", "real+synthetic"))
    assert real.losses == both.losses


def test_augmentation_keeps_form_and_range():
    x = augment(TASK.real.images[:4], generator(1))
    assert x.shape == (4, 1, 32, 32)
    assert x.dtype == torch.float32
    assert float(x.abs().max()) <= 1.3
