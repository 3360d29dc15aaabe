"""The spectrum of clean estimates: guidance must not buy control with contrast that no image has."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

BANDS = 8


def band_power(images: Tensor) -> Tensor:
    """Return the power of images [B, C, S, S] in 8 bands, each a sixteenth of S cycles wide: float32 [B, C, 8].

    The mean is left out; the last band holds all that lies above. The bands' sum is the variance, times S^4.
    """
    bands, weight = _bands(images.shape[-1])
    return _powers(torch.fft.rfft2(images.float()), bands.to(images.device), weight.to(images.device))


def rescaled(guided: Tensor, plain: Tensor, share: float) -> Tensor:
    """Return guided clean estimates [B, C, S, S], no band of which has more power than that of the plain ones.

    Only amplitudes are lowered: the mean, phases and bands of less power stay. `share`: how much of the excess
    amplitude is taken away, 0 to 1.
    Source: our own; guidance rescaled to the deviation of the conditional estimate (Lin et al. 2024, arXiv 2305.08891,
    section 3.4), band by band, as guidance does not raise all frequencies alike (Sadat et al. 2025, arXiv 2506.19713).
    """
    bands, weight = (part.to(guided.device) for part in _bands(guided.shape[-1]))
    spectrum = torch.fft.rfft2(guided.float())
    wanted, found = _powers(torch.fft.rfft2(plain.float()), bands, weight), _powers(spectrum, bands, weight)
    gain = 1 - share + share * (wanted / found.clamp(min=1e-12)).sqrt().clamp(max=1)
    gain = torch.cat([torch.ones_like(gain[..., :1]), gain], -1)[..., bands]
    return torch.fft.irfft2(spectrum * gain, s=guided.shape[-2:])


def _powers(spectrum: Tensor, bands: Tensor, weight: Tensor) -> Tensor:
    power = (spectrum.real.square() + spectrum.imag.square()) * weight
    return torch.stack([(power * (bands == band)).sum((-2, -1)) for band in range(1, BANDS + 1)], -1)


@cache
def _bands(side: int) -> tuple[Tensor, Tensor]:
    """Return which band a coefficient of `rfft2` is in (0: the mean), and how often the whole transform holds it."""
    rows, columns = torch.fft.fftfreq(side) * side, torch.arange(side // 2 + 1)
    radius = torch.hypot(rows[:, None], columns[None].float())
    bands = (radius * (2 * BANDS / side)).ceil().long().clamp(max=BANDS)
    weight = torch.full((side, side // 2 + 1), 2.0)
    weight[:, 0] = 1
    if side % 2 == 0:
        weight[:, -1] = 1
    return bands, weight
