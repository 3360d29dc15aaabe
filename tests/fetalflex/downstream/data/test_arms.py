import numpy as np
import pytest

from fetalflex.downstream.data.arms import leavable_centers, plane_pool, plane_test
from fetalflex.downstream.data.planes import plane_task
from fetalflex.downstream.protocol import TrainingSpec
from fetalflex.errors import TooFewCasesError
from tests.fetalflex.downstream.made import labelled

TASK = plane_task(labelled(36, "r"), labelled(36, "s"), labelled(24, "t"), labelled(18, "j"))


def spec(arm, **more):
    return TrainingSpec("plane", "resnet", arm, 0, **more)


def held(images, pool):
    return {i.tobytes() for i in images} & {i.tobytes() for i in pool.images}


@pytest.mark.parametrize(
    ("arm", "parts"),
    [
        ("real", {"real"}), ("real+augmentation", {"real"}), ("synthetic", {"synthetic"}),
        ("real+synthetic", {"real", "synthetic"}), ("real+unseen", {"real", "unseen"}), ("real+noise", {"real"}),
    ],
)  # fmt: skip
def test_each_arm_learns_from_its_own_images_and_never_from_test(arm, parts):
    pool = plane_pool(spec(arm), TASK, 1)
    for name in ("real", "synthetic", "unseen"):
        assert bool(held(getattr(TASK, name).images, pool)) == (name in parts)
    assert not held(TASK.test.images, pool)
    assert pool.strong == (arm == "real+augmentation")


def test_the_ratio_bounds_the_synthetic_images():
    assert len(plane_pool(spec("real+synthetic", ratio=0.5), TASK, 1).images) == 36 + 18
    assert len(plane_pool(spec("real+synthetic", ratio=5.0), TASK, 1).images) == 36 + 36


def test_few_shots_lessen_real_images_alone():
    pool = plane_pool(spec("real+synthetic", shots=0.25), TASK, 1)
    assert len(held(TASK.real.images, pool)) < 18
    assert len(held(TASK.synthetic.images, pool)) == 36


def test_a_center_left_out_is_tested_on_and_not_learnt_from():
    left = spec("real+synthetic", without="c1")
    pool = plane_pool(left, TASK, 1)
    for part in (TASK.real, TASK.synthetic):
        assert not held(part.images[part.centers == "c1"], pool)
    assert set(TASK.test.centers[plane_test(left, TASK)]) == {"c1"}
    assert leavable_centers(TASK) == ("c0", "c1")


def test_an_arm_without_a_class_is_refused():
    task = plane_task(labelled(36, "r"), labelled(8, "s", ("femur",)), labelled(24, "t"), labelled(18, "j"))
    with pytest.raises(TooFewCasesError, match="arm synthetic of the plane task has no image of"):
        plane_pool(spec("synthetic"), task, 1)


def test_noise_is_noise_under_every_label():
    pool = plane_pool(spec("real+noise"), TASK, 1)
    noise = pool.images[36:].astype(float)
    assert set(pool.labels[36:]) == {0, 1, 2}
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.15
