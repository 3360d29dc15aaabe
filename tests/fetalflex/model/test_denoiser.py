import numpy as np
import torch

from fetalflex.model.batches import to_pixels, to_signal
from fetalflex.model.denoiser import BLACK
from tests.fetalflex import tiny

GREYS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)


def test_every_grey_comes_back_to_the_bit() -> None:
    denoiser = tiny.generator().denoiser
    assert np.array_equal(to_pixels(denoiser.decode(denoiser.encode(to_signal(GREYS)))), GREYS)


def test_black_alone_lies_below_the_greys() -> None:
    signal = to_signal(GREYS)
    encoded = tiny.generator().denoiser.encode(signal)
    assert encoded.flatten()[0] == torch.tensor(BLACK)
    assert torch.equal(encoded.flatten()[1:], signal.flatten()[1:])


def test_what_is_nearly_black_is_cut_off_to_black() -> None:
    x = torch.linspace(2 * BLACK, -1, 16).reshape(1, 1, 4, 4)
    assert (to_pixels(tiny.generator().denoiser.decode(x)) == 0).all()
