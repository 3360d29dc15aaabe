import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import ndimage
from torch import nn
from torchmetrics.functional.image import lpips as trusted

from fetalflex.errors import ModelError
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.fidelity.lpips import LpipsEncoder, check_lpips, lpips
from fetalflex.rng import generator
from tests.fetalflex.quality.fidelity.backbone import random_weights, write_backbone

PAIRS = np.array([[0, 1], [1, 2], [2, 2], [3, 0]])
WEIGHTS = random_weights()
# Torchvision's configuration D of VGG: channels, and M for a pooling.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def images(side, n=4):
    noise = generator(5, side).normal(size=(n, side, side))
    return (128 + 300 * ndimage.gaussian_filter(noise, (0, 2, 2))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("models") / "vgg", WEIGHTS)


@pytest.fixture(scope="module")
def encoder(folder):
    return LpipsEncoder(f"folder:{folder}", batch=2)


def torchvision_features(net, pretrained):
    """What torchmetrics takes from torchvision: `vgg16().features`, here with the weights of the test."""
    assert (net, pretrained) == ("vgg16", True)
    layers, channels = [], 3
    for width in LAYERS:
        layers += [nn.MaxPool2d(2, 2)] if width == "M" else [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(True)]
        channels = channels if width == "M" else width
    found = nn.Sequential(*layers)
    found.load_state_dict({name.removeprefix("features."): value for name, value in WEIGHTS.items()})
    return found


@pytest.mark.parametrize("side", [64, 50, 16])
def test_distances_are_those_of_torchmetrics(encoder, monkeypatch, side):
    monkeypatch.setattr(trusted, "_get_tv_model_features", torchvision_features)
    shown = images(side)
    rgb = torch.from_numpy(shown)[:, None].expand(-1, 3, -1, -1).float() / 127.5 - 1
    left, right = (rgb[PAIRS[:, i]] for i in (0, 1))
    expected = trusted.learned_perceptual_image_patch_similarity(left, right, net_type="vgg", reduction="none")
    assert expected[0] > 0.01
    assert np.abs(lpips(encoder, shown, PAIRS) - expected.numpy()).max() < 1e-5


def test_equal_images_are_at_no_distance_and_the_order_of_a_pair_does_not_matter(encoder):
    shown = images(32)
    found = lpips(encoder, shown, PAIRS)
    assert found[2] == 0
    assert (found[[0, 1, 3]] > 0).all()
    assert np.array_equal(lpips(encoder, shown, PAIRS[:, ::-1]), found)


def test_the_distance_of_a_pair_does_not_depend_on_its_company(encoder):
    shown = images(32)
    assert lpips(encoder, shown, PAIRS[3:])[0] == lpips(encoder, shown, PAIRS)[3]


def test_distances_are_kept_pair_by_pair(encoder, tmp_path):
    shown, cached = images(16), CachedEncoder(encoder, tmp_path)
    first = lpips(cached, shown, PAIRS)
    again = CachedEncoder(encoder, tmp_path)
    assert np.array_equal(lpips(again, shown, PAIRS), first)
    assert (cached.forwards, again.forwards) == (4, 0)


def test_the_name_is_that_of_the_weights_and_not_of_the_files(encoder, folder, tmp_path):
    names = sorted(WEIGHTS)
    for number, part in enumerate((names[:9], names[9:])):
        save_file({name: WEIGHTS[name] for name in part}, tmp_path / f"part-{number}.safetensors")
    assert LpipsEncoder(f"folder:{tmp_path}").name == encoder.name
    other = write_backbone(tmp_path / "other", WEIGHTS | {"features.0.bias": WEIGHTS["features.0.bias"] + 1})
    assert LpipsEncoder(f"folder:{other}").name != encoder.name


def test_weights_of_no_vgg16_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        check_lpips(f"folder:{tmp_path / 'nowhere'}")
    (tmp_path / "vgg16.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickles are refused"):
        check_lpips(f"folder:{tmp_path}")
    with pytest.raises(ModelError, match="@REVISION"):
        check_lpips("hub:timm/vgg16.tv_in1k")
    (tmp_path / "model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(ModelError, match="damaged"):
        check_lpips(f"folder:{tmp_path}")
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"found nothing for features\.0\.weight; expected \[64, 3, 3, 3\]"):
        check_lpips(f"folder:{tmp_path}")
    save_file({"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"found shape \[64, 1, 3, 3\]"):
        LpipsEncoder(f"folder:{tmp_path}")


def test_a_package_without_the_distances_weights_is_said(folder, tmp_path, monkeypatch):
    check_lpips(f"folder:{folder}")
    torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "vgg.pth")
    with monkeypatch.context() as other:
        other.setattr("fetalflex.quality.fidelity.lpips.lpips_weights", lambda: tmp_path / "vgg.pth")
        with pytest.raises(ModelError, match=r"vgg\.pth: cannot be read"):
            LpipsEncoder(f"folder:{folder}")
    monkeypatch.setattr("fetalflex.quality.fidelity.lpips.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="package torchmetrics"):
        check_lpips(f"folder:{folder}")


def test_images_too_small_for_four_poolings_are_refused(encoder):
    with pytest.raises(ModelError, match="at least 16"):
        lpips(encoder, images(15), PAIRS)
