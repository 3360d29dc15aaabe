import numpy as np
import pytest
from scipy import ndimage

from fetalflex.quality.fidelity.looks import LOOKS, RANGE_DB, looks, sector
from fetalflex.rng import generator


def speckled(across=1.5, along=1.0, shape=1.0, side=96, seed=1):
    """A log-compressed field whose intensity is a gamma variate of a shape, smoothed where it is to be correlated."""
    rng = generator(seed)
    field = [ndimage.gaussian_filter(rng.normal(size=(side, side)), (along, across)) for _ in range(round(2 * shape))]
    intensity = sum(f**2 for f in field)
    decibels = 10 * np.log10(intensity / intensity.mean() + 1e-12)
    return (140 + 255 / RANGE_DB * decibels).clip(0, 255).astype(np.uint8)


def look(image):
    return dict(zip(LOOKS, looks(image[None])[0], strict=True))


def test_rayleigh_speckle_has_nakagami_shape_near_one_and_smoother_speckle_more():
    plain, smooth = (look(speckled(0.6, 0.6, shape=m))["nakagami_shape"] for m in (1, 4))
    assert 0.8 < plain < 1.5
    assert smooth > 2 * plain


def test_speckle_size_follows_the_grain_in_each_direction():
    found = look(speckled(across=2.0, along=0.8))
    wider = look(speckled(across=3.0, along=0.8))
    assert found["speckle_size_across"] > found["speckle_size_along"] > 0.5
    assert wider["speckle_size_across"] > found["speckle_size_across"]


def test_sector_brightness_and_saturation_are_those_of_the_picture():
    image = np.zeros((64, 64), np.uint8)
    image[16:48, 16:48] = 100
    image[20, 20:30] = 255
    image[2, 2] = 200  # a stray pixel is no sector
    found = look(image)
    assert found["sector_area"] == pytest.approx(0.25)
    assert found["saturation"] == pytest.approx(10 / 1024)
    assert found["brightness"] == pytest.approx((1014 * 100 + 10 * 255) / 1024)
    assert not sector(image)[2, 2]


def test_a_tilted_sector_is_no_longer_its_mirror_image():
    row, column = np.indices((96, 96))
    fan = np.where((np.abs(column - 40) < 8 + 0.4 * row) & (row > 8) & (row < 84), 120, 0).astype(np.uint8)
    tilted = [ndimage.rotate(fan, degrees, reshape=False, order=0) for degrees in (0, 5, 15)]
    straight, little, much = (look(image)["sector_asymmetry"] for image in tilted)
    assert straight < 0.001
    assert 0.02 < little < much / 2


def test_a_black_image_has_no_looks():
    assert np.isnan(looks(np.zeros((1, 32, 32), np.uint8))).all()
    assert looks(np.zeros((0, 32, 32), np.uint8)).shape == (0, len(LOOKS))
