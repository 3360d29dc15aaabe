"""One picture is known again in another size, crop, gain or compression; another head in the same place is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fetalflex.ingest.alike import SIDE, Views, _gaussian, compare, compare_views, thumbnail
from fetalflex.ingest.duplicates import Limits
from tests.fetalflex.ingest.pictures import head, jpeg, resized


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(compare(thumbnail(a)[None], thumbnail(b)[None]).correlation[0])


def test_a_picture_is_wholly_like_itself() -> None:
    found = compare(thumbnail(head(1))[None], thumbnail(head(1))[None])
    assert found.correlation[0] == pytest.approx(1, abs=1e-3)
    assert found.overlap[0] > 0.95


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda p: jpeg(p, 40), id="compressed"),
        pytest.param(lambda p: resized(p, 300, 300), id="stretched"),
        pytest.param(lambda p: resized(p, 80, 100), id="half the size"),
        pytest.param(lambda p: (255 * (p / 255) ** 0.7).astype(np.uint8), id="another grey map"),
        pytest.param(lambda p: np.clip(p * 1.3, 0, 255).astype(np.uint8), id="more gain"),
        pytest.param(lambda p: p[8:-4, 5:-12], id="cropped"),
    ],
)
def test_another_form_of_the_picture_is_the_picture(other) -> None:
    assert _alike(head(2), other(head(2))) > 0.75


def test_another_head_in_the_same_place_is_another_picture() -> None:
    assert max(_alike(head(3), head(seed)) for seed in range(10, 20)) < Limits().correlation


@settings(max_examples=20)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_what_was_cut_off_does_not_matter(top: int, bottom: int, left: int, right: int) -> None:
    whole = head(4)
    assert _alike(whole, whole[top : 160 - bottom, left : 200 - right]) > 0.7


def test_a_pair_has_its_figure_in_any_company() -> None:
    left = np.stack([thumbnail(head(s)) for s in range(6)])
    right = np.stack([thumbnail(jpeg(head(s if s % 2 else 90 + s), 60)) for s in range(6)])
    together = compare(left, right).correlation
    alone = [compare(left[i : i + 1], right[i : i + 1]).correlation[0] for i in range(6)]
    np.testing.assert_array_equal(together, alone)


def test_pictures_without_contrast_are_like_nothing() -> None:
    flat = np.full((1, SIDE, SIDE), 7, np.uint8)
    assert abs(compare(flat, flat).correlation[0]) < 1e-6
    assert abs(compare(flat, thumbnail(head(5))[None]).correlation[0]) < 0.3


def test_pictures_are_smoothed_as_scipy_does() -> None:
    images = np.stack([thumbnail(head(s)) for s in range(3)]).astype(np.float32)
    expected = ndimage.gaussian_filter(images, (0, 2, 2), truncate=3)
    np.testing.assert_allclose(_gaussian(images, 2.0, 3), expected, atol=1e-3)


def test_views_are_compared_by_position() -> None:
    pictures = [thumbnail(head(s)) for s in range(4)]
    left, right = Views(np.stack(pictures)), Views(np.stack(pictures[::-1]))
    found = compare_views((left, right), np.array([0, 1, 2]), np.array([3, 2, 3])).correlation
    assert found[:2] == pytest.approx(1, abs=1e-3)
    assert found[2] == compare(pictures[2][None], pictures[0][None]).correlation[0]
