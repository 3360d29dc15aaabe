import pytest
import torch
from transformers import ViTConfig, ViTModel

from fetalflex.downstream.models.classifier import build_classifier
from fetalflex.errors import ModelError
from fetalflex.params_evaluate import MODELS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", [32, 64])
def test_gives_one_logit_per_class(name, side):
    network = build_classifier(name, "tiny", 3, side, 1).eval()
    x = torch.zeros(2, 1, side, side)
    assert network(x).shape == (2, 3)
    assert network.maps(x).ndim == 4
    assert sum(p.numel() for p in network.parameters()) < 400_000


@pytest.mark.parametrize("name", MODELS)
def test_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    one = build_classifier(name, "tiny", 3, 32, 7).state_dict()
    torch.manual_seed(2)
    two = build_classifier(name, "tiny", 3, 32, 7).state_dict()
    other = build_classifier(name, "tiny", 3, 32, 8).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_full_networks_are_those_of_the_papers():
    millions = {name: sum(p.numel() for p in build_classifier(name, "full", 2, 64, 0).parameters()) / 1e6
                for name in ("densenet", "efficientnet")}  # fmt: skip
    assert millions["densenet"] == pytest.approx(6.95, abs=0.05)
    assert millions["efficientnet"] == pytest.approx(4.0, abs=0.05)


def test_takes_pretrained_weights_from_a_folder_and_grey_images(tmp_path):
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    kept = ViTModel(config, add_pooling_layer=False)
    kept.save_pretrained(tmp_path)
    network = build_classifier("vit", "tiny", 4, 32, 1, pretrained=str(tmp_path)).eval()
    assert torch.equal(network.body.embeddings.cls_token, kept.embeddings.cls_token)
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 4)
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        build_classifier("vit", "tiny", 4, 32, 1, pretrained=str(tmp_path / "missing"))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="expected safetensors"):
        build_classifier("vit", "tiny", 4, 32, 1, pretrained=str(tmp_path))
