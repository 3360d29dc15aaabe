import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.diffusion.spectrum import BANDS, band_power, rescaled


def images(seed: int, side: int = 32, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def wave(cycles: int, side: int = 64) -> torch.Tensor:
    return torch.cos(2 * math.pi * cycles * torch.arange(side) / side).expand(1, 1, side, side)


@pytest.mark.parametrize("side", [16, 33, 64])
def test_power_of_all_bands_is_the_variance(side: int) -> None:
    some = images(1, side) + 3
    variance = some.var((2, 3), correction=0)
    assert torch.allclose(band_power(some).sum(-1) / side**4, variance, rtol=1e-4)


@pytest.mark.parametrize(("cycles", "band"), [(1, 0), (4, 0), (5, 1), (20, 4), (29, 7), (32, 7)])
def test_a_wave_is_in_the_band_of_its_frequency(cycles: int, band: int) -> None:
    power = band_power(wave(cycles))[0, 0]
    assert power.argmax() == band
    assert power[band] > 0.999 * power.sum()


@given(st.integers(0, 10**6), st.floats(0.2, 4.0))
def test_no_band_has_more_power_than_the_plain_estimate(seed: int, gain: float) -> None:
    plain, drawn = images(seed), gain * images(seed + 1) + 0.5
    found, most = band_power(rescaled(drawn, plain, 1.0)), band_power(plain)
    assert (found <= most * 1.001).all()
    assert torch.allclose(found, torch.minimum(most, band_power(drawn)), rtol=1e-3)


@given(st.integers(0, 10**6))
def test_mean_phases_and_what_is_weaker_stay(seed: int) -> None:
    plain, drawn = images(seed), images(seed + 1) + 0.5
    assert torch.allclose(rescaled(drawn, plain, 1.0).mean((2, 3)), drawn.mean((2, 3)), atol=1e-5)
    assert torch.allclose(rescaled(0.1 * drawn, plain, 1.0), 0.1 * drawn, atol=1e-5)
    before, after = (torch.fft.fft2(x) for x in (drawn, rescaled(drawn, plain, 1.0)))
    ratio = (after / before).flatten(2)[..., 1:]
    assert (ratio.imag.abs() < 1e-2).all()
    assert (ratio.real > 0).all()


def test_share_is_how_much_of_the_excess_amplitude_goes() -> None:
    plain, drawn = wave(6), 2 * wave(6)
    for share, amplitude in ((0.0, 2.0), (0.25, 1.75), (1.0, 1.0)):
        assert torch.allclose(rescaled(drawn, plain, share), amplitude * wave(6), atol=1e-4)


def test_a_row_does_not_depend_on_its_company() -> None:
    plain, drawn = images(1, 64, 8), 2 * images(2, 64, 8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(rescaled(drawn[order], plain[order], 1.0), rescaled(drawn, plain, 1.0)[order])


def test_black_image_stays_black() -> None:
    black = torch.full((1, 1, 32, 32), -1.0)
    assert torch.allclose(rescaled(black, black, 1.0), black, atol=1e-6)


def test_bands_are_eight() -> None:
    assert band_power(images(1)).shape == (2, 1, BANDS)
