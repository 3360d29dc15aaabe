import numpy as np
import pytest
import torch

from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, mask_box
from fetalflex.diffusion.echogenicity import EARLY, PLAIN, anechoic, fluid_regions
from fetalflex.diffusion.objective import clean_estimate
from fetalflex.diffusion.solver import euler, time_grid
from fetalflex.model.denoiser import BLACK

SIDE = 24


def _square(low: int, high: int) -> Mask:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[low:high, low:high] = True
    return mask


def _layout(structure: str, *, edited: bool) -> Layout:
    mask = _square(8, 14)
    box = mask_box(mask, 1.0)
    assert box is not None
    return Layout("transventricular", "image", 1.0, (LayoutObject(structure, box, mask, edited),))


def _grey(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A field whose clean estimate is a picture: dark on the left, grey elsewhere."""
    picture = torch.full_like(x, 0.2)
    picture[..., : SIDE // 4] = -0.9
    return (x - picture) / t[:, None, None, None]


@pytest.mark.parametrize(
    ("structure", "edited", "found"),
    [("lateral-ventricle", True, True), ("lateral-ventricle", False, False), ("head", True, False)],
)
def test_only_edited_fluid_counts(structure: str, edited: bool, found: bool) -> None:
    region = fluid_regions([_layout(structure, edited=edited)], SIDE)
    assert bool(region.any()) == found
    assert not found or np.array_equal(region[0, 0].numpy() > 0, _square(8, 14))


def _spaces(plane: str, *asked: tuple[str, Mask]) -> torch.Tensor:
    objects = []
    for name, mask in asked:
        box = mask_box(mask, 1.0)
        assert box is not None
        objects.append(LayoutObject(name, box, mask, True))
    return fluid_regions([Layout(plane, "image", 1.0, tuple(objects))], SIDE)[0, 0] > 0


def test_between_two_spaces_a_wall_is_left() -> None:
    left, right = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    left[8:14, 6:12], right[8:14, 12:18] = True, True
    apart = _spaces("four-chamber", ("left-ventricle", left), ("right-ventricle", right))
    assert not apart[:, 11:13].any(), "the septum is the denoiser's"
    assert apart[8:14, 6:11].all()
    assert apart[8:14, 13:18].all()
    one = _spaces("four-chamber", ("left-ventricle", left), ("left-ventricle", right))
    assert np.array_equal(one, left | right), "one structure is one space"


def test_a_cyst_in_a_ventricle_keeps_its_wall() -> None:
    ventricle, cyst = _square(4, 20), _square(10, 14)
    found = _spaces("transventricular", ("lateral-ventricle", ventricle), ("choroid-plexus-cyst", cyst)).numpy()
    wall = _square(9, 15) & ~cyst
    assert np.array_equal(found, ventricle & ~wall)


def test_without_fluid_or_strength_the_field_is_the_same() -> None:
    assert anechoic(_grey, torch.zeros(1, 1, SIDE, SIDE), 1.0) is _grey
    assert anechoic(_grey, fluid_regions([_layout("lateral-ventricle", edited=True)], SIDE), 0.0) is _grey


def test_the_clean_estimate_gets_as_dark_as_the_darkest_surroundings() -> None:
    region = fluid_regions([_layout("lateral-ventricle", edited=True)], SIDE)
    x, t = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)), torch.tensor([0.6])
    clean = clean_estimate(x, anechoic(_grey, region, 1.0)(x, t), t)[0, 0]
    assert clean[10:12, 10:12].numpy() == pytest.approx(-0.9, abs=0.02)
    assert 0.2 > clean[8, 8] > -0.9  # softer at the border


def test_outside_of_the_region_and_of_its_times_nothing_changes() -> None:
    region = fluid_regions([_layout("lateral-ventricle", edited=True)], SIDE)
    x = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    field = anechoic(_grey, region, 1.0)
    for time in (EARLY + 0.01, 0.5, 0.05):
        t = torch.tensor([time])
        before, after = _grey(x, t), field(x, t)
        assert torch.equal(before[region == 0], after[region == 0])
        assert torch.equal(before, after) == (time > EARLY)


def test_the_last_step_does_not_fill_fluid_again() -> None:
    """A denoiser that has seen fluid in narrow spaces alone would draw grey to the end."""
    region = fluid_regions([_layout("lateral-ventricle", edited=True)], SIDE)
    x = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    image = euler(anechoic(_grey, region, 1.0), x, time_grid(12))
    assert image[0, 0, 10:12, 10:12].numpy() == pytest.approx(-0.9, abs=0.02)


def test_fluid_is_as_dark_as_the_darkest_echo_and_not_as_black_as_no_echo() -> None:
    region = fluid_regions([_layout("lateral-ventricle", edited=True)], SIDE)

    def sector(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        picture = torch.full_like(x, 0.2)
        picture[..., 14:18] = -0.8
        picture[..., 18:] = BLACK
        return (x - picture) / t[:, None, None, None]

    x, t = torch.zeros(1, 1, SIDE, SIDE), torch.tensor([0.5])
    clean = clean_estimate(x, anechoic(sector, region, 1.0)(x, t), t)
    assert clean[0, 0, 10:12, 10:12].numpy() == pytest.approx(-0.8, abs=0.02)


@pytest.mark.parametrize("patch", [2, 4])
def test_a_lattice_of_the_patches_is_taken_out_of_fluid_late_and_nowhere_else(patch: int) -> None:
    region = fluid_regions([_layout("lateral-ventricle", edited=True)], SIDE)
    lattice = torch.zeros(1, 1, SIDE, SIDE)
    lattice[..., ::patch, ::patch] = 0.3

    def woven(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (x - lattice + 0.9) / t[:, None, None, None]

    x = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    for time in (PLAIN / 2, PLAIN + 0.01):
        t = torch.tensor([time])
        clean = clean_estimate(x, anechoic(woven, region, 1.0, patch)(x, t), t)
        deep = clean[0, 0, 9:13, 9:13]
        assert (float(deep.std()) < 1e-5) == (time < PLAIN)
        assert torch.equal(anechoic(woven, region, 1.0, patch)(x, t)[region == 0], woven(x, t)[region == 0])


def test_what_is_darker_already_stays() -> None:
    region = fluid_regions([_layout("lateral-ventricle", edited=True)], SIDE)

    def dark(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (x - torch.where(region > 0, -1.0, 0.3)) / t[:, None, None, None]

    x, t = torch.zeros(1, 1, SIDE, SIDE), torch.tensor([0.5])
    clean = clean_estimate(x, anechoic(dark, region, 1.0)(x, t), t)
    assert clean[0, 0, 10:12, 10:12].numpy() == pytest.approx(-1.0, abs=1e-5)


def test_an_image_does_not_depend_on_its_company() -> None:
    layouts = [_layout("lateral-ventricle", edited=True), _layout("head", edited=False), _layout("csp", edited=True)]
    x = torch.randn(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    t = torch.tensor([0.3, 0.5, 0.7])
    together = anechoic(_grey, fluid_regions(layouts, SIDE), 1.0)(x, t)
    for i, layout in enumerate(layouts):
        alone = anechoic(_grey, fluid_regions([layout], SIDE), 1.0)(x[i : i + 1], t[i : i + 1])
        assert torch.equal(alone, together[i : i + 1])
