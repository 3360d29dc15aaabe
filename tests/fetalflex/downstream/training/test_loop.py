import numpy as np
import pytest

from fetalflex.downstream.data.arms import Pool
from fetalflex.downstream.data.labelled import class_numbers
from fetalflex.downstream.training.loop import Learner, embeddings, feature_maps, probabilities, train, train_steps
from fetalflex.params_evaluate import Evaluate
from tests.fetalflex.downstream.made import PLANES, labelled

QUICK = Evaluate(steps=25, batch_size=8)


def pool(data, strong=False):
    labels = class_numbers(data.labels, PLANES)
    return Pool(data.images, labels, np.zeros_like(labels), PLANES, strong)


def test_learns_what_can_be_learnt_and_depends_on_the_seed_alone():
    data, test = pool(labelled(36, "r")), labelled(18, "t")
    network, losses = train(Learner("resnet", 0, 3), data, QUICK)
    found = probabilities(network, test.images)
    assert np.mean(found.argmax(1) == class_numbers(test.labels, PLANES)) > 0.9
    assert found.sum(1) == pytest.approx(1, abs=1e-5)
    again, same = train(Learner("resnet", 0, 3), data, QUICK)
    assert losses == same
    assert np.array_equal(found, probabilities(again, test.images))
    assert train(Learner("resnet", 0, 4), data, QUICK)[1] != losses


def test_every_arm_takes_the_same_number_of_steps():
    quick = Evaluate(steps=3, batch_size=4)
    for data in (pool(labelled(6, "r")), pool(labelled(36, "r")), pool(labelled(36, "r"), strong=True)):
        assert [log.step for log in train_steps(Learner("densenet", 0, 1), data, quick)] == [0, 1, 2]


def test_features_of_no_images_have_the_right_width():
    network, _ = train(Learner("densenet", 0, 1), pool(labelled(6, "r")), Evaluate(steps=1, batch_size=2))
    none, some = labelled(0, "n").images, labelled(3, "r").images
    assert embeddings(network, none).shape == (0, embeddings(network, some).shape[1])
    assert np.linalg.norm(embeddings(network, some), axis=1) == pytest.approx(1, abs=1e-5)
    assert feature_maps(network, none).shape[1:] == feature_maps(network, some).shape[1:]


def test_classes_and_groups_are_drawn_equally_often():
    """Of class 0 a tenth is of group 1, and class 0 is a tenth of all: both are seen half the time."""
    images = np.zeros((200, 8, 8), np.uint8)
    labels = np.array([0] * 20 + [1] * 180)
    groups = np.array([1] * 2 + [0] * 198)
    from fetalflex.downstream.training.loop import _draw, _members
    from fetalflex.rng import generator

    index = _draw(_members(Pool(images, labels, groups, ("a", "b"))), 4000, generator(1))
    assert np.mean(labels[index] == 0) == pytest.approx(0.5, abs=0.05)
    assert np.mean(groups[index[labels[index] == 0]]) == pytest.approx(0.5, abs=0.05)
