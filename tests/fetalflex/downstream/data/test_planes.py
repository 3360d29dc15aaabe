import numpy as np
import pytest

from fetalflex.downstream.data.labelled import no_images, some_patients
from fetalflex.downstream.data.planes import plane_task
from fetalflex.errors import TooFewCasesError
from tests.fetalflex.downstream.made import labelled


def test_planes_with_too_few_test_images_are_left_out_and_named():
    test = labelled(24, "t")
    few = test.take((test.labels != "femur") | (np.arange(24) < 8))
    task = plane_task(labelled(24, "r"), labelled(24, "s"), few, labelled(6, "j"))
    assert task.classes == ("transventricular", "abdomen")
    assert [row["plane"] for row in task.left_out] == ["femur"]
    assert "femur" not in set(task.real.labels) | set(task.test.labels) | set(task.unseen.labels)


def test_stated_planes_join_the_unstated_one_of_another_center():
    real = labelled(24, "r", ("transventricular", "femur"))
    unstated = labelled(12, "u").relabelled("brain")
    test = labelled(24, "t", ("transventricular", "femur"))
    task = plane_task(
        real, no_images(32), test.relabelled(np.where(test.labels == "femur", "femur", "brain")), unstated
    )
    assert task.classes == ("brain", "femur")
    assert set(task.real.labels) == {"brain", "femur"}


def test_a_test_patient_in_training_or_control_is_refused():
    for real, unseen in ((labelled(24, "t"), labelled(6, "j")), (labelled(24, "r"), labelled(6, "t"))):
        with pytest.raises(TooFewCasesError, match="test patients are also in training"):
            plane_task(real, labelled(24, "s"), labelled(24, "t"), unseen)


def test_one_plane_is_no_task():
    one = ("femur",)
    with pytest.raises(TooFewCasesError, match="expected at least 2"):
        plane_task(labelled(12, "r", one), labelled(12, "s", one), labelled(12, "t", one), labelled(4, "j", one))


def test_fewer_patients_are_a_subset_with_every_class():
    data = labelled(60, "r")
    few, more = some_patients(data, 0.1, 3), some_patients(data, 0.5, 3)
    assert set(few.patients) < set(more.patients) < set(data.patients)
    assert set(few.labels) == set(data.labels)
    assert set(some_patients(data, 0.1, 4).patients) != set(few.patients)
    assert some_patients(data, 1.0, 3) is data
