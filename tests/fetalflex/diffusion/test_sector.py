from dataclasses import replace

import numpy as np
import torch

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.diffusion.objective import clean_estimate
from fetalflex.diffusion.sector import LATE, fitting_sectors, in_sector
from fetalflex.diffusion.two_stage import SampleRequest, sample_images
from fetalflex.model.batches import to_signal
from fetalflex.model.sectors import Outline, Sectors, fill
from tests.fetalflex import tiny

SIZE = tiny.SIZE
LEFT: Outline = ((0.0, 0.0), (0.7, 0.0), (0.7, 1.0), (0.0, 1.0))
RIGHT: Outline = ((0.3, 0.0), (1.0, 0.0), (1.0, 1.0), (0.3, 1.0))
SECTORS = Sectors({"near": (LEFT, RIGHT)})
BOTH = SECTORS.known("near")
REGIONS = fill(BOTH, SIZE)
PARAMS = tiny.SAMPLE.model_copy(update={"guidance": 1.5})


def _layout(x: float) -> Layout:
    return Layout("transventricular", "image", 1.0, (LayoutObject("head", (x, 0.3, x + 0.2, 0.6)),), "near")


def _shows(pixels: np.ndarray):
    """A field whose clean estimate is these pixels, whatever x is."""
    clean = to_signal(pixels)
    return lambda x, t: (x - clean) / t[:, None, None, None]


def _right_half() -> np.ndarray:
    image = np.zeros((1, SIZE, SIZE), np.uint8)
    image[0, :, 6:] = 120
    return image


X = torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_late_estimates_are_black_outside_of_the_nearest_sector_and_untouched_inside() -> None:
    field, t = _shows(_right_half()), torch.tensor([0.4])
    kept = in_sector(field, [BOTH])(X, t)
    outside = ~torch.from_numpy(REGIONS[1])[None, None]
    torch.testing.assert_close(clean_estimate(X, kept, t)[outside], torch.full((int(outside.sum()),), -1.0))
    assert torch.equal(kept[~outside], field(X, t)[~outside])


def test_early_estimates_and_images_without_a_sector_are_untouched_to_the_bit() -> None:
    field = _shows(_right_half())
    early = torch.tensor([LATE + 0.05])
    assert torch.equal(in_sector(field, [BOTH])(X, early), field(X, early))
    assert in_sector(field, [()]) is field
    black, late = _shows(np.zeros((1, SIZE, SIZE), np.uint8)), torch.tensor([0.2])
    assert torch.equal(in_sector(black, [BOTH])(X, late), black(X, late))  # nothing is shown yet


def test_each_image_has_its_own_sector_time_and_no_company() -> None:
    pixels = np.concatenate([_right_half(), _right_half()[:, :, ::-1], _right_half()])
    x, t = X.repeat(3, 1, 1, 1), torch.tensor([0.5, 0.3, 0.9])
    fitting = [BOTH, BOTH, BOTH]
    together = in_sector(_shows(pixels), fitting)(x, t)
    for i in range(3):
        alone = in_sector(_shows(pixels[i : i + 1]), fitting[i : i + 1])(x[i : i + 1], t[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)
    assert not torch.equal(together[0], together[1])


def test_a_sector_that_cuts_what_is_asked_is_none() -> None:
    assert len(fitting_sectors(BOTH, _layout(0.4))) == 2
    [only] = fitting_sectors(BOTH, _layout(0.75))
    assert only == RIGHT
    assert len(fitting_sectors(BOTH, replace(_layout(0.1), objects=()))) == 2
    assert len(fitting_sectors(SECTORS.known("far"), _layout(0.4))) == 0


def test_large_images_have_the_same_sector() -> None:
    size, t = 8 * SIZE, torch.tensor([0.4])
    x = torch.zeros(1, 1, size, size)
    pixels = np.kron(_right_half(), np.ones((8, 8), np.uint8))
    large = fill(BOTH, size)
    clean = clean_estimate(x, in_sector(_shows(pixels), [fitting_sectors(BOTH, _layout(0.4))])(x, t), t)
    assert bool((clean[0, 0][torch.from_numpy(~large[1])] == -1).all())
    assert torch.equal(clean[0, 0][torch.from_numpy(large[1])], to_signal(pixels)[0, 0][torch.from_numpy(large[1])])


def test_images_end_in_a_sector_of_their_center_and_edits_in_that_of_their_reference() -> None:
    generator = replace(tiny.generator(), sectors=SECTORS)
    asked = replace(tiny.layout(20), center="near")
    plain = PARAMS.model_copy(update={"real_sectors": False})
    reference = np.full((SIZE, SIZE), 90, np.uint8)
    requests = [SampleRequest("a", asked), SampleRequest("b", asked, reference, np.ones((SIZE, SIZE), bool))]
    free, edited = sample_images(generator, tiny.segmenter(), requests, PARAMS, 1)
    assert min((free.image[~region] > 0).sum() for region in REGIONS) == 0
    assert min((free.coarse[~region] > 0).sum() for region in REGIONS) == 0
    other, same = sample_images(generator, tiny.segmenter(), requests, plain, 1)
    assert all((other.image[~region] > 0).any() for region in REGIONS)
    assert np.array_equal(same.image, edited.image)
