import numpy as np
import pytest
from scipy import ndimage
from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

from fetalflex.quality.fidelity.diversity import BETAS, draw_pairs, feature_distance, ms_ssim
from fetalflex.rng import generator


def smooth(n, side=64, seed=2):
    noise = generator(seed).normal(size=(n, side, side))
    return (128 + 300 * ndimage.gaussian_filter(noise, (0, 3, 3))).clip(0, 255).astype(np.uint8)


def test_equal_images_have_ms_ssim_one_and_strangers_less():
    images = smooth(4)
    images[1] = images[0]
    equal, apart = ms_ssim(images, np.array([[0, 1], [0, 2]]))
    assert equal == pytest.approx(1)
    assert apart < 0.5


def test_large_images_have_the_published_five_scales():
    import torch

    images = smooth(2, side=192)
    metric = MultiScaleStructuralSimilarityIndexMeasure(data_range=255.0, betas=BETAS)
    a, b = (torch.from_numpy(i)[None, None].float() for i in images)
    assert ms_ssim(images, np.array([[0, 1]]))[0] == pytest.approx(float(metric(a, b)), abs=1e-4)


def test_pairs_are_of_one_plane_and_two_sources():
    planes, clusters = np.array(["a", "a", "b", "b", "a"]), np.array([1, 1, 2, 3, 4])
    pairs = draw_pairs(planes, clusters, 50, generator(1))
    assert {tuple(p) for p in pairs} == {(0, 4), (1, 4), (2, 3)}
    assert draw_pairs(planes[:2], clusters[:2], 5, generator(1)).shape == (0, 2)


def test_feature_distance_is_per_root_of_the_dimension():
    assert feature_distance(np.array([[0.0] * 4, [3.0] * 4]), np.array([[0, 1]]))[0] == pytest.approx(3)
