"""The protocol tells what helps from what does not: real images of other patients from noise and from wrong labels."""

import numpy as np
import pytest

from fetalflex.downstream.data.labelled import Labelled
from fetalflex.downstream.data.planes import plane_task
from fetalflex.downstream.statistics.summary import downstream_report
from fetalflex.downstream.study import Study, run_training
from fetalflex.params_evaluate import Evaluate
from fetalflex.rng import generator

SIDE = 32
PARAMS = Evaluate(models=("resnet",), tasks=("plane",), arms=("real", "real+synthetic"), seeds=3, steps=60,
                  batch_size=16, ratio=12.0, bootstrap=500)  # fmt: skip


def hard(count, prefix):
    """Ovals that lie and ovals that stand, of any size, place, brightness and noise: few examples do not suffice."""
    rng, images, names = generator(0, prefix), [], []
    y, x = np.mgrid[:SIDE, :SIDE]
    for i in range(count):
        a, b = rng.uniform(5, 9), rng.uniform(2.5, 4)
        a, b = (a, b) if i % 2 else (b, a)
        inside = ((x - rng.uniform(9, 23)) / a) ** 2 + ((y - rng.uniform(9, 23)) / b) ** 2 < 1
        images.append(inside * rng.uniform(50, 160) + rng.uniform(0, 70) + rng.normal(0, 35, (SIDE, SIDE)))
        names.append(("abdomen", "femur")[i % 2])
    patients = np.array([f"{prefix}{i // 4}" for i in range(count)])
    return Labelled(np.clip(images, 0, 255).astype(np.uint8), np.array(names), patients, np.full(count, "c"))


def verdict(synthetic):
    task = plane_task(hard(12, "real"), synthetic, hard(200, "test"), hard(8, "judge"))
    study = Study(PARAMS, 1, task, None)
    outcomes = {spec: run_training(study, spec) for spec in study.trainings()}
    (row,) = downstream_report(study, outcomes, {})["verdicts"]
    return row


@pytest.mark.slow
def test_real_images_of_other_patients_help():
    row = verdict(hard(144, "others"))
    assert row["verdict"] == "helps", row
    assert row["difference_low"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "wrong labels"])
def test_noise_and_wrong_labels_do_not_help(kind):
    others, rng = hard(144, "others"), generator(3)
    if kind == "noise":
        images = rng.integers(0, 256, others.images.shape, dtype=np.uint8)
        others = Labelled(images, others.labels, others.patients, others.centers)
    else:
        others = others.relabelled(rng.permutation(others.labels))
    row = verdict(others)
    assert row["verdict"] != "helps", row
