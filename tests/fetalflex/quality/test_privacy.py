import numpy as np
import pytest

from fetalflex.errors import TooFewCasesError
from fetalflex.quality.privacy import Gallery, held_out_limits, nearest_training
from fetalflex.rng import generator


def gallery(n, seed, name):
    images = generator(seed).integers(0, 256, (n, 12, 12)).astype(np.uint8)
    return of(images, name)


def of(images, name):
    features = images.reshape(-1, 144)[:, ::3].astype(np.float32)
    return Gallery(images, features, np.array([f"{name}{i}" for i in range(len(images))]))


TRAINING = gallery(40, 1, "t")
LIMITS = held_out_limits(gallery(60, 2, "h"), TRAINING)


def test_fresh_images_are_no_copies():
    found = nearest_training(gallery(30, 3, "s"), TRAINING, LIMITS)
    assert sum(item.near_copy for item in found) <= 2
    assert all(0 <= item.distance <= 2 and -1 <= item.correlation <= 1 for item in found)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_training_image_is_found_again_also_mirrored(mirrored):
    copy = TRAINING.images[7:8, :, :: -1 if mirrored else 1]
    found = nearest_training(of(copy, "s"), TRAINING, LIMITS)[0]
    assert found.near_copy
    assert found.correlated_case == "t7"
    assert found.correlation == pytest.approx(1)
    assert found.mirrored == mirrored


def test_brightness_and_noise_do_not_hide_a_copy():
    noisy = (TRAINING.images[3:4] * 0.6 + 40 + generator(5).normal(0, 8, (1, 12, 12))).clip(0, 255).astype(np.uint8)
    found = nearest_training(of(noisy, "s"), TRAINING, LIMITS)[0]
    assert found.near_copy
    assert found.correlated_case == "t3"


def test_exact_copies_are_flagged_even_if_held_out_images_were_copies():
    limits = held_out_limits(TRAINING, TRAINING)
    assert nearest_training(of(TRAINING.images[:1], "s"), TRAINING, limits)[0].near_copy


def test_a_black_image_is_no_error():
    found = nearest_training(of(np.zeros((1, 12, 12), np.uint8), "s"), TRAINING, LIMITS)[0]
    assert found.correlation == 0.0


def test_nothing_to_compare_with_is_an_error():
    with pytest.raises(TooFewCasesError, match="no training image"):
        nearest_training(TRAINING, gallery(0, 1, "x"), LIMITS)
