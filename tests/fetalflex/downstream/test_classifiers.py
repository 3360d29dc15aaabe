import pytest
import torch

from fetalflex.downstream.classifiers import build_classifier


@pytest.mark.parametrize("name", ["resnet", "densenet"])
@pytest.mark.parametrize("side", [32, 64])
def test_gives_one_logit_per_class(name, side):
    network = build_classifier(name, 3, 1).eval()
    assert network(torch.zeros(2, 1, side, side)).shape == (2, 3)
    assert sum(p.numel() for p in network.parameters()) < 400_000


@pytest.mark.parametrize("name", ["resnet", "densenet"])
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    one = build_classifier(name, 3, 7).state_dict()
    torch.manual_seed(2)
    two = build_classifier(name, 3, 7).state_dict()
    other = build_classifier(name, 3, 8).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
