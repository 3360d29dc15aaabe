import numpy as np
import pytest
import torch

from fetalflex.errors import ArtifactError, ModelError
from fetalflex.quality.features import inception
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.features.encoder import CallableEncoder
from fetalflex.quality.features.inception import InceptionEncoder, inception_weights
from fetalflex.rng import generator


def images(n=5, side=16):
    return generator(n).integers(0, 256, (n, side, side)).astype(np.uint8)


class Counting:
    """Counts the images that were really encoded."""

    name = "counting"

    def __init__(self):
        self.encoded = 0

    def features(self, pictures):
        self.encoded += len(pictures)
        return pictures[:, 0, :7].astype(np.float32)


def test_a_callable_gets_images_scaled_to_plus_minus_one_in_constant_batches():
    seen = []

    def encode(x):
        seen.append((tuple(x.shape), float(x.min()), float(x.max())))
        return x.flatten(1)[:, :3]

    found = CallableEncoder("own", encode, batch=4).features(np.full((5, 8, 8), 255, np.uint8))
    assert found.shape == (5, 3)
    assert found.dtype == np.float32
    assert [s[0] for s in seen] == [(4, 1, 8, 8)] * 2
    assert seen[1][1:] == (-1.0, 1.0)


def test_an_image_has_the_same_features_in_any_company():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8))
    encoder = CallableEncoder("net", net, batch=4)
    pictures = images(9)
    assert np.array_equal(encoder.features(pictures)[6], encoder.features(pictures[6:7])[0])


def test_second_scoring_makes_no_forward_pass(tmp_path):
    first, second = Counting(), Counting()
    pictures = np.concatenate([images(5), images(5)[:2]])
    one = CachedEncoder(first, tmp_path).features(pictures)
    two = CachedEncoder(second, tmp_path).features(pictures[::-1])
    assert (first.encoded, second.encoded) == (5, 0)
    assert np.array_equal(one, two[::-1])


def test_the_cache_keeps_encoders_apart(tmp_path):
    other = Counting()
    other.name = "other"
    CachedEncoder(Counting(), tmp_path).features(images())
    CachedEncoder(other, tmp_path).features(images())
    assert other.encoded == 5


def test_a_damaged_cache_file_is_named(tmp_path):
    CachedEncoder(Counting(), tmp_path).features(images(1))
    damaged = next(tmp_path.rglob("*.npz"))
    damaged.write_bytes(b"no npy")
    with pytest.raises(ArtifactError, match=damaged.name):
        CachedEncoder(Counting(), tmp_path).features(images(1))


def test_no_images_give_no_features(tmp_path):
    assert CachedEncoder(Counting(), tmp_path).features(images(0)).shape[0] == 0
    assert CallableEncoder("own", lambda x: x.flatten(1)).features(images(0)).shape == (0, 256)


@pytest.mark.parametrize("wrong", [np.zeros((2, 8, 8), np.float32), np.zeros((8, 8), np.uint8)])
def test_other_than_grey_bytes_are_refused(wrong):
    with pytest.raises(ModelError, match="expected uint8"):
        CallableEncoder("own", lambda x: x.flatten(1)).features(wrong)


def test_features_that_are_no_matrix_are_refused():
    with pytest.raises(ModelError, match="expected"):
        CallableEncoder("own", lambda x: x).features(images())


def test_inception_gives_2048_features_that_tell_pictures_apart():
    encoder = InceptionEncoder(batch=2)
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    found = encoder.features(np.stack([ramp, ramp.T]))
    assert encoder.name == "inception"
    assert found.shape == (2, 2048)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert not np.allclose(found[0], found[1], atol=0.05)


def test_missing_or_other_weights_are_said(tmp_path, monkeypatch):
    wrong = tmp_path / "default_1.pt"
    wrong.write_bytes(b"something else")
    with pytest.raises(ModelError, match="expected SHA-256"):
        InceptionEncoder(weights=wrong)
    with pytest.raises(ModelError, match="no file"):
        InceptionEncoder(weights=tmp_path / "absent.pt")
    monkeypatch.setattr(inception, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"score\.encoders"):
        inception_weights()


def test_partly_known_images_cost_the_unknown_ones_alone(tmp_path):
    first, second = Counting(), Counting()
    CachedEncoder(first, tmp_path).features(images(3))
    more = np.concatenate([images(3), images(4)])
    cached = CachedEncoder(second, tmp_path)
    assert np.array_equal(cached.features(more), Counting().features(more))
    assert (second.encoded, cached.forwards) == (4, 4)


def test_what_another_process_kept_meanwhile_is_used(tmp_path):
    mine, others = Counting(), Counting()
    cached = CachedEncoder(mine, tmp_path)
    cached.features(images(2))
    CachedEncoder(others, tmp_path).features(images(3))
    cached.features(images(3))
    assert mine.encoded == 2
