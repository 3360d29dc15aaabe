import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.downstream.data.anomalies import Pairs, anomaly_task
from fetalflex.downstream.data.arms import anomaly_pool, pretext_pool
from fetalflex.downstream.data.labelled import join, no_images
from fetalflex.downstream.protocol import TrainingSpec
from fetalflex.errors import TooFewCasesError
from fetalflex.params_evaluate import ARMS
from tests.fetalflex.downstream.made import labelled, material, pairs


@pytest.mark.parametrize("arm", ARMS)
def test_no_arm_learns_from_a_real_abnormal_image_or_a_pair(arm):
    task = anomaly_task(material())
    spec = TrainingSpec("anomaly", "resnet", arm, 0)
    pool = pretext_pool(task) if arm == "real" else anomaly_pool(spec, task, 1)
    tested = {i.tobytes() for i in [*task.abnormal.images, *task.pairs.normal, *task.pairs.abnormal, *task.test.images]}
    assert len(pool.images)
    assert not {i.tobytes() for i in pool.images} & tested


def test_a_real_abnormal_image_among_what_is_trained_on_is_refused():
    clean = material()
    smuggled = clean.abnormal.take([3]).relabelled("transventricular")
    for part in ("real", "synthetic", "synthetic_abnormal"):
        with pytest.raises(TooFewCasesError, match="1 abnormal test images"):
            anomaly_task(material(**{part: join([getattr(clean, part), smuggled])}))


def test_images_that_share_a_case_with_a_pair_are_not_learnt_from():
    abnormal = labelled(12, "sa", ("transventricular",), wide=4)
    shared = pairs()
    cases = shared.cases.astype("U8")
    cases[0] = abnormal.patients[0]
    moved = Pairs(shared.normal, shared.abnormal, shared.regions, shared.anomalies, shared.planes, cases,
                  shared.severities, shared.units)  # fmt: skip
    task = anomaly_task(material(synthetic_abnormal=abnormal, pairs=moved))
    assert len(task.synthetic_abnormal) == 10
    assert not set(task.synthetic_abnormal.patients) & set(cases)


def test_only_planes_on_which_anomalies_are_asked_are_normal_images():
    task = anomaly_task(material())
    assert task.planes == ("transventricular",)
    for part in (task.real, task.synthetic, task.test, task.calibration):
        assert set(part.labels) == {"transventricular"}


def test_nothing_abnormal_to_learn_or_to_test_on_is_refused():
    with pytest.raises(TooFewCasesError, match="synthetic abnormal images do not share"):
        anomaly_task(material(synthetic_abnormal=no_images(32)))
    with pytest.raises(TooFewCasesError, match="nothing abnormal to test on"):
        anomaly_task(material(abnormal=no_images(32), abnormal_planes=np.zeros(0, str), pairs=pairs(0)))


@given(st.integers(0, 50))
def test_the_mixed_arm_draws_real_and_synthetic_normals_as_two_groups(seed):
    task = anomaly_task(material())
    pool = anomaly_pool(TrainingSpec("anomaly", "resnet", "real+synthetic", 0), task, seed)
    normal = pool.labels == 0
    assert set(pool.groups[normal]) == {0, 1}
    assert (pool.labels == 1).sum() == len(task.synthetic_abnormal)
