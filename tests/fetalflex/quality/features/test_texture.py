import numpy as np
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops

from fetalflex.quality.features.texture import TextureEncoder
from fetalflex.rng import generator

ENCODER = TextureEncoder()


def grains(sigma, n=6):
    noise = ndimage.gaussian_filter(generator(1).normal(size=(n, 48, 48)), (0, *sigma))
    return (128 + 60 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def test_features_are_finite_and_tell_grain_sizes_apart():
    fine, coarse = ENCODER.features(grains((0.7, 0.7))), ENCODER.features(grains((2, 2)))
    assert fine.shape == (6, 83)
    assert np.isfinite(fine).all()
    within, between = fine.std(0) + coarse.std(0) + 1e-6, np.abs(fine.mean(0) - coarse.mean(0))
    assert (between > 3 * within).sum() > 20


def test_the_direction_of_the_grain_is_seen():
    across, along = ENCODER.features(grains((0.7, 2))), ENCODER.features(grains((2, 0.7)))
    assert (np.abs(across.mean(0) - along.mean(0)) > 3 * (across.std(0) + 1e-6)).any()


def test_co_occurrence_is_scikit_images():
    image = grains((1, 1))[0]
    matrix = graycomatrix(
        image // 8, (1, 2, 4), (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4), 32, symmetric=True, normed=True
    )
    assert np.allclose(ENCODER.features(image[None])[0, 33:45], graycoprops(matrix, "homogeneity").ravel(), atol=1e-6)


def test_a_flat_image_has_finite_features():
    assert np.isfinite(ENCODER.features(np.full((1, 32, 32), 90, np.uint8))).all()
    assert ENCODER.features(np.zeros((0, 32, 32), np.uint8)).shape == (0, 83)
