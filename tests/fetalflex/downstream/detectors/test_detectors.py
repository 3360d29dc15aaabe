import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fetalflex.downstream.data.anomalies import anomaly_task
from fetalflex.downstream.detectors.gaussians import PlaceGaussians
from fetalflex.downstream.detectors.neighbours import PatchMemory, k_centres, nearest_distances
from fetalflex.downstream.detectors.run import run_detector
from fetalflex.downstream.detectors.style import style_features, style_scores
from fetalflex.errors import ArtifactError
from fetalflex.params_evaluate import Evaluate
from fetalflex.rng import generator
from tests.fetalflex.downstream.made import labelled, material


def test_nearest_distances_equal_brute_force():
    rng = generator(1)
    known, asked = rng.normal(size=(40, 5)), rng.normal(size=(7, 5))
    every = np.sort(np.linalg.norm(asked[:, None] - known[None], axis=2), axis=1)
    assert nearest_distances(asked, known) == pytest.approx(every[:, :3].mean(1), rel=1e-5)
    assert nearest_distances(asked[:0], known).shape == (0,)


def test_k_centres_cover_far_points_first():
    points = np.concatenate([np.zeros((50, 2)), [[9, 9]], [[-9, 9]]]).astype(np.float32)
    assert {50, 51} <= set(k_centres(points, 3, generator(1)).tolist())
    assert len(k_centres(points[:2], 3, generator(1))) == 2


def test_mahalanobis_distance_is_that_of_the_fitted_gaussian():
    maps = generator(1).normal(size=(400, 3, 2, 2)).astype(np.float32)
    maps[:, 0] *= 5
    fitted = PlaceGaussians.of(maps, 3, generator(2))
    away = np.zeros((1, 3, 2, 2), np.float32)
    away[0, 0] = 10
    assert fitted.heat(away).ravel() == pytest.approx(2, abs=0.35)


def test_memory_knows_its_own_patches():
    maps = generator(1).normal(size=(4, 3, 4, 4)).astype(np.float32)
    memory = PatchMemory.of(maps, 1000, generator(2))
    assert memory.heat(maps).max() == pytest.approx(0, abs=1e-5)
    assert memory.heat(maps + 9).min() > 1


@pytest.mark.parametrize("name", ["neighbours", "gaussian"])
def test_feature_detectors_tell_a_bright_middle_from_none_and_point_at_it(name):
    task = anomaly_task(material())
    found = run_detector(name, task, Evaluate(steps=30, batch_size=8), 1, None)
    scores = np.concatenate([found["test"], found["abnormal"]])
    truth = np.repeat([0, 1], [len(found["test"]), len(found["abnormal"])])
    assert roc_auc_score(truth, scores) > 0.8
    assert found["heat_pairs_abnormal"].shape == task.pairs.abnormal.shape
    assert (found["pairs_abnormal"][-3:] > found["pairs_normal"][-3:]).all()


def test_the_counterfactual_says_what_it_lacks():
    with pytest.raises(ArtifactError, match="needs models/generator and models/guide"):
        run_detector("counterfactual", anomaly_task(material()), Evaluate(), 1, None)


def test_style_is_told_from_outside_of_the_anatomy_alone():
    data = labelled(40, "r")
    anatomy = np.ones(data.images.shape, bool)
    anatomy[:, :4] = False
    other = np.arange(40) % 4 < 2  # whole patients
    darker = data.images.copy()
    darker[other, :4] //= 3
    assert roc_auc_score(other, style_scores(darker, anatomy, other, data.patients)) > 0.95
    inside = data.images.copy()
    inside[other, 8:] //= 3
    assert np.array_equal(style_features(inside, anatomy), style_features(data.images, anatomy))
    assert np.isnan(style_scores(darker[:4], anatomy[:4], other[:4], data.patients[:4])).all()
