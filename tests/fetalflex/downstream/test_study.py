import numpy as np
import pytest

from fetalflex.downstream.data.anomalies import anomaly_task
from fetalflex.downstream.data.planes import plane_task
from fetalflex.downstream.study import SETS, Study, load_outcome, run_training, save_outcome
from fetalflex.errors import ArtifactError
from fetalflex.params_evaluate import ARMS, Evaluate
from tests.fetalflex.downstream.made import labelled, material

PARAMS = Evaluate(models=("densenet",), arms=ARMS, steps=1, batch_size=4, seeds=1)
PLANES = plane_task(labelled(24, "r"), labelled(24, "s"), labelled(24, "t"), labelled(6, "j"))


def test_a_packed_study_gives_the_same_outcomes(tmp_path):
    study = Study(PARAMS, 7, PLANES, anomaly_task(material()))
    study.save(tmp_path / "study.npz")
    again = Study.load(tmp_path / "study.npz")
    assert again.params == PARAMS
    assert again.trainings() == study.trainings()
    for spec in study.trainings():
        one, two = run_training(study, spec), run_training(again, spec)
        assert set(one) == set(two)
        assert all(np.array_equal(one[name], two[name]) for name in one)
        if spec.task == "anomaly":
            assert set(SETS) < set(one)
            assert all(np.isfinite(one[name]).all() for name in SETS)
        else:
            assert one["probabilities"].shape == (24, 3)


def test_outcomes_come_back_and_damaged_ones_are_named(tmp_path):
    save_outcome(tmp_path / "a.npz", {"x": np.arange(3)})
    assert load_outcome(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2]
    (tmp_path / "a.npz").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="run evaluate again"):
        load_outcome(tmp_path / "a.npz")
    with pytest.raises(ArtifactError, match="pack it again"):
        Study.load(tmp_path / "missing.npz")


def test_a_task_that_is_not_held_is_named():
    study = Study(PARAMS, 7, PLANES, None)
    with pytest.raises(ArtifactError, match="does not hold"):
        run_training(study, study.trainings()[-1])
