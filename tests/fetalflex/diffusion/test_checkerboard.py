import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.diffusion.checkerboard import plain, without_checkerboard
from fetalflex.quality.plausibility.pictures import grid_power

SIDE = 128


def _tissue(seed: int, count: int = 1) -> torch.Tensor:
    """Smooth tissue with some speckle in a black frame."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 8, 8, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic") * 0.15 - 0.4
    image = smooth + 0.01 * torch.randn(count, 1, SIDE, SIDE, generator=random)
    image[..., :6, :] = image[..., -6:, :] = image[..., :4] = -1
    return image.clamp(-1, 1)


def _mesh(patch: int, seed: int, amplitude: float) -> torch.Tensor:
    """A pattern of that period whose mean over a patch is 0, stronger on one side."""
    tile = torch.randn(patch, patch, generator=torch.Generator().manual_seed(seed))
    tile = tile - tile.mean()
    tile = tile / tile.abs().max()
    times = SIDE // patch
    return tile.repeat(times, times)[None, None] * torch.linspace(0.5, 1, SIDE) * amplitude


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([2, 4]), st.integers(0, 10_000))
def test_a_faint_mesh_is_taken_out_and_little_else(patch: int, seed: int) -> None:
    tissue = _tissue(seed)
    mesh = _mesh(patch, seed, 0.02)
    mended, untouched = without_checkerboard(tissue + mesh * (tissue > -1), patch), without_checkerboard(tissue, patch)
    inner = (..., slice(20, -20), slice(20, -20))
    before, left = mesh[inner].square().mean(), (mended - untouched)[inner].square().mean()
    assert left < 0.05 * before
    assert (untouched - tissue).square().mean().sqrt() < 0.002  # a quarter of a grey level


def test_what_a_check_of_plausibility_finds_is_gone() -> None:
    tissue = _tissue(3)
    meshed = tissue + _mesh(2, 3, 0.02) * (tissue > -1)
    grey = [((p.clamp(-1, 1) + 1) * 127.5).round().numpy().astype(np.uint8)[0, 0] for p in (tissue, meshed,
            without_checkerboard(meshed, 2))]  # fmt: skip
    real, found, mended = (grid_power(g) for g in grey)
    assert found > real + 0.5
    assert mended < real + 0.1


@pytest.mark.parametrize("patch", [2, 4])
def test_edges_and_speckle_stay(patch: int) -> None:
    image = _tissue(1)
    image[..., 60:63, 20:100] = 0.9  # bone, along the patches
    speckled = image.clone()
    speckled[..., 20:108, 20:108] += 0.15 * torch.randn(88, 88, generator=torch.Generator().manual_seed(2))
    for picture in (image, speckled.clamp(-1, 1)):
        assert (without_checkerboard(picture, patch) - picture).abs().max() < 0.02


def test_black_stays_black_and_single_pixels_have_no_mesh() -> None:
    image = _tissue(2) + _mesh(2, 2, 0.02) * (_tissue(2) > -1)
    assert bool((without_checkerboard(image, 2)[image == -1] == -1).all())
    assert without_checkerboard(image, 1) is image


def test_an_image_depends_on_itself_alone() -> None:
    images = _tissue(5, 4)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(without_checkerboard(images, 2)[order], without_checkerboard(images[order], 2))


def test_a_pattern_of_that_period_does_not_pass_the_window() -> None:
    for patch in (2, 3, 4):
        side = 12 * patch
        tile = torch.randn(patch, patch, generator=torch.Generator().manual_seed(patch))
        found = plain(tile.repeat(12, 12)[None, None], patch)
        assert found.shape[-1] == side
        inner = found[..., patch:-patch, patch:-patch]
        assert float(inner.std()) < 1e-6
