import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.quality.fidelity.repeats import repeated
from fetalflex.rng import generator
from tests.fetalflex.ingest.pictures import head, resized

PICTURES = np.stack([resized(head(seed), 64, 64) for seed in range(12)])
SOURCES = np.array([f"source-{i}" for i in range(12)])


def test_different_pictures_repeat_nothing() -> None:
    assert not repeated(PICTURES, SOURCES).any()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=2, max_size=6, unique=True))
def test_all_that_show_one_picture_are_counted_and_no_other(chosen: list[int]) -> None:
    images = PICTURES.copy()
    images[chosen] = PICTURES[chosen[0]]
    assert np.flatnonzero(repeated(images, SOURCES)).tolist() == sorted(chosen)


def test_a_picture_with_other_gain_and_a_little_noise_is_the_same() -> None:
    noise = generator(1).normal(0, 1, PICTURES[0].shape)
    images = np.concatenate([PICTURES, np.round(0.9 * PICTURES[:1] + noise).clip(0, 255).astype(np.uint8)])
    assert np.flatnonzero(repeated(images, np.append(SOURCES, "another"))).tolist() == [0, 12]


def test_images_of_one_source_may_be_alike() -> None:
    assert not repeated(PICTURES[[0, 0, 1]], np.array(["a", "a", "b"])).any()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_repeat_nothing(count: int) -> None:
    assert not repeated(PICTURES[:count], SOURCES[:count]).any()
