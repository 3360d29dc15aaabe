import time

import numpy as np
import pytest
from scipy import ndimage, stats

from fetalflex.errors import ParameterError
from fetalflex.phantom.acoustics import SAMPLES, blur, echo_field, homogeneous_envelope, image_scene
from fetalflex.phantom.devices import DEVICES, device
from fetalflex.phantom.scene import make_scene
from fetalflex.phantom.tissues import INDEX
from fetalflex.rng import generator

DEPTHS = (np.arange(SAMPLES) + 0.5) * 100 / SAMPLES


@pytest.mark.parametrize("name", DEVICES)
def test_speckle_of_a_homogeneous_region_is_rayleigh(name: str) -> None:
    envelope = homogeneous_envelope(DEVICES[name], 100.0, generator(1, name))
    inner = envelope[20:-20]
    assert inner.mean() / inner.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)  # 1.913
    apart = inner[::12, ::16].ravel()  # further apart than the PSF, so independent
    assert len(apart) > 300
    assert stats.kstest(apart, stats.rayleigh(scale=np.sqrt((inner**2).mean() / 2)).cdf).pvalue > 0.01


@pytest.mark.parametrize("name", DEVICES)
def test_point_spread_is_narrowest_at_the_focus_and_longer_across_than_along(name: str) -> None:
    def width(row: int) -> tuple[float, float]:
        field = np.zeros((SAMPLES, 128), complex)
        field[row, 64] = 1
        spread = np.abs(blur(field, DEPTHS, DEVICES[name]))
        reach = DEVICES[name].radius_mm + DEPTHS[row]
        pitch = reach * np.deg2rad(2 * DEVICES[name].half_angle) / (DEVICES[name].lines - 1)
        step = DEPTHS[1] - DEPTHS[0]
        return (spread[row] > spread.max() / 2).sum() * pitch, (spread[:, 64] > spread.max() / 2).sum() * step

    near, focus, far = width(60), width(int(0.55 * SAMPLES)), width(SAMPLES - 60)
    assert focus[0] <= min(near[0], far[0])
    assert focus[0] > focus[1]


def _slab(inside: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean echo level (dB) below a slab of a tissue, and beside it, both in the same soft tissue."""
    scanner = DEVICES["curved-a"]
    tissue = np.full((SAMPLES, 240), INDEX["liver"], np.int8)
    tissue[150:200, 80:160] = INDEX[inside]
    envelope = np.abs(echo_field(tissue, DEPTHS, scanner, generator(1)))
    level = 20 * np.log10(envelope[260:400].mean(axis=0))
    return level[100:140].mean(), level[30:60].mean(), envelope


def test_bone_casts_a_shadow() -> None:
    below, beside, _ = _slab("bone")
    assert below < beside - 15


def test_fluid_enhances_what_lies_behind_it() -> None:
    below, beside, envelope = _slab("fluid")
    assert below > beside + 2
    assert envelope[160:190, 100:140].mean() < envelope[160:190, 30:60].mean() / 10


def test_interface_across_the_beam_is_brighter_than_along_it() -> None:
    tissue = np.full((SAMPLES, 240), INDEX["liver"], np.int8)
    tissue[200:400, 60:180] = INDEX["skull"]
    envelope = np.abs(echo_field(tissue, DEPTHS, DEVICES["curved-a"], generator(1)))
    assert envelope[198:203, 80:160].mean() > 2 * envelope[215:225, 58:62].mean()


@pytest.mark.parametrize("name", DEVICES)
def test_shows_anatomy_at_its_expected_brightness(name: str) -> None:
    scanner = DEVICES[name]
    for seed in range(3):
        femur = image_scene(make_scene("femur", 24.0, generator(seed)), scanner, generator(seed, "speckle"))
        bone = femur.masks["femur"]
        behind = np.roll(ndimage.binary_erosion(bone, iterations=2), int(6 / femur.spacing_mm), axis=0) & ~bone
        assert femur.pixels[behind].mean() < femur.pixels[bone].mean() / 2
        belly = image_scene(make_scene("abdomen", 24.0, generator(seed)), scanner, generator(seed, "speckle"))
        fluid = ndimage.binary_erosion(belly.masks["stomach"], iterations=4)  # without the beam's spill from the wall
        assert belly.pixels[fluid].mean() < belly.pixels[belly.masks["abdomen"]].mean() / 3
        head = image_scene(make_scene("transventricular", 24.0, generator(seed)), scanner, generator(seed, "speckle"))
        skull = head.masks["head"] & ~ndimage.binary_erosion(head.masks["head"], iterations=4)
        assert head.pixels[skull].mean() > 1.5 * head.pixels[head.masks["head"]].mean()
        assert head.pixels[head.masks["csp"]].mean() < head.pixels[head.masks["head"]].mean()


@pytest.mark.parametrize("name", DEVICES)
def test_keeps_everything_inside_the_sector_and_below_the_header(name: str) -> None:
    scanner = DEVICES[name]
    picture = image_scene(make_scene("four-chamber", 30.0, generator(2)), scanner, generator(3))
    assert picture.pixels.shape == scanner.frame
    assert picture.pixels[~picture.sector].max() == 0
    assert picture.region[1] >= scanner.header
    assert all(not (mask & ~picture.sector).any() for mask in picture.masks.values())
    x0, y0, x1, y1 = picture.region
    assert picture.sector[y0:y1, x0:x1].sum() == picture.sector.sum()


def test_most_of_the_anatomy_lies_in_the_sector() -> None:
    for plane, structure in (("transventricular", "head"), ("abdomen", "abdomen"), ("femur", "femur")):
        for seed in (0, 2, 4):
            for scanner in DEVICES.values():
                scene = make_scene(plane, 18.0 + 4 * seed, generator(seed, plane))
                picture = image_scene(scene, scanner, generator(seed))
                x, y = np.meshgrid(np.arange(-90, 90, picture.spacing_mm), np.arange(0, 160, picture.spacing_mm))
                whole = scene.masks(x, y)[structure].sum()
                assert picture.masks[structure].sum() > 0.9 * whole


def test_is_the_same_for_the_same_seed_and_fast() -> None:
    scene = make_scene("abdomen", 25.0, generator(4))
    started = time.perf_counter()
    pictures = [image_scene(scene, DEVICES["curved-a"], generator(5)) for _ in range(2)]
    assert time.perf_counter() - started < 2.0  # 0.1 s each on an idle core
    np.testing.assert_array_equal(pictures[0].pixels, pictures[1].pixels)
    assert (image_scene(scene, DEVICES["curved-a"], generator(6)).pixels != pictures[0].pixels).any()


def test_refuses_an_unknown_device() -> None:
    with pytest.raises(ParameterError, match="expected one of curved-a"):
        device("linear")


def test_tgc_does_not_blow_up_and_levels_stay_on_the_scale() -> None:
    from fetalflex.phantom.acoustics import compress

    scanner = DEVICES["curved-b"]
    loud = compress(np.full((SAMPLES, 30), 1e3), DEPTHS, scanner, generator(1))
    silent = compress(np.zeros((SAMPLES, 30)), DEPTHS, scanner, generator(1))
    assert loud.max() == 255
    assert silent.min() >= 0
    assert silent[: SAMPLES // 4].mean() <= silent[-SAMPLES // 4 :].mean()  # the TGC lifts the noise with depth


def test_devices_differ_where_centers_do() -> None:
    a, b = DEVICES["curved-a"], DEVICES["curved-b"]
    for field in (
        "frequency_mhz",
        "gain_db",
        "half_angle",
        "dynamic_range_db",
        "manufacturer",
        "model",
        "frame",
        "syntax",
    ):
        assert getattr(a, field) != getattr(b, field)
    scene = make_scene("abdomen", 24.0, generator(1))
    one, other = (image_scene(scene, d, generator(1)) for d in (a, b))
    assert one.pixels.shape != other.pixels.shape
    assert one.spacing_mm != other.spacing_mm
