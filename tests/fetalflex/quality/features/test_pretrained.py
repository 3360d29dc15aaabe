import json

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel

from fetalflex.errors import ModelError
from fetalflex.quality.features.pretrained import PretrainedEncoder
from fetalflex.quality.features.registry import open_encoder
from fetalflex.rng import generator

IMAGES = generator(1).integers(0, 256, (3, 32, 32)).astype(np.uint8)


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    torch.manual_seed(1)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    folder = tmp_path_factory.mktemp("models") / "dino"
    Dinov2Model(config).save_pretrained(folder)
    told = {"size": {"shortest_edge": 28}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def test_a_local_folder_is_an_encoder_named_by_its_contents(dino, tmp_path):
    encoder = open_encoder(f"folder:{dino}", tmp_path)
    found = encoder.features(IMAGES)
    assert found.shape == (3, 16)
    assert encoder.name.startswith("dino-")
    assert np.array_equal(encoder.features(IMAGES[1:2])[0], found[1])


def test_features_are_the_models_own_after_its_preprocessing(dino):
    model = Dinov2Model.from_pretrained(dino).eval()
    grey = torch.from_numpy(IMAGES)[:, None].float() / 255
    large = torch.nn.functional.interpolate(grey, (28, 28), mode="bilinear").expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = model(pixel_values=(large - 0.5) / 0.25).pooler_output.numpy()
    assert np.allclose(PretrainedEncoder(f"folder:{dino}").features(IMAGES), expected, atol=1e-4)


def test_a_convolutional_model_is_pooled(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    assert PretrainedEncoder(f"folder:{tmp_path / 'resnet'}").features(IMAGES).shape == (3, 16)


def test_pickles_missing_folders_and_unfixed_revisions_are_refused(dino, tmp_path):
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((dino / "config.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickles are refused"):
        PretrainedEncoder(f"folder:{tmp_path / 'pickled'}")
    with pytest.raises(ModelError, match="no such folder"):
        PretrainedEncoder(f"folder:{tmp_path / 'nowhere'}")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "model.safetensors").write_bytes((dino / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"config\.json"):
        PretrainedEncoder(f"folder:{tmp_path / 'bare'}")
    with pytest.raises(ModelError, match="@REVISION"):
        PretrainedEncoder("hub:facebook/dinov2-small")
    with pytest.raises(ModelError, match="is unknown"):
        open_encoder("resnet", tmp_path)


def test_a_hub_out_of_reach_is_one_error_of_ours(monkeypatch):
    def unreachable(name, **_):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ModelError, match=r"cannot be fetched \(no route\); name a local folder"):
        PretrainedEncoder("hub:facebook/dinov2-small@0123abc")


def test_radiomics_says_how_to_install_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("fetalflex.quality.features.radiomics.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="no-build-isolation pyradiomics frd-score"):
        open_encoder("radiomics", tmp_path)
