import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from fetalflex.quality.gate_metrics import is_release_metric
from fetalflex.quality.plausibility.checks import REASONS, Pictures, failures, learn_limits
from fetalflex.quality.plausibility.pictures import shadow_depth
from fetalflex.rng import generator

SIDE = 64


def fans(n, seed, half=0.55):
    """Speckle in a fan; a bone with a shadow in the middle."""
    rng = generator(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = np.abs(columns - SIDE / 2) < half * (rows + 12)
    found = np.zeros((n, SIDE, SIDE))
    bones = np.zeros((n, SIDE, SIDE), bool)
    for i in range(n):
        speckle = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 0.8)
        image = (70 + rng.normal(0, 5)) * (1 + 0.5 * speckle / speckle.std())
        top = int(rng.integers(24, 32))
        bones[i, top : top + 3, 22:42] = True
        image[bones[i]] = 210
        image[top + 3 :, 22:42] *= 0.3
        found[i] = image * inside
    return found.clip(0, 240).astype(np.uint8), bones


def pictures(n, seed, center="harbour"):
    images, bones = fans(n, seed)
    return Pictures(images, np.full(n, center), bones)


LIMITS = learn_limits(pictures(80, 1))
OTHERS = pictures(60, 2)


def changed(change):
    return Pictures(np.stack([change(i) for i in OTHERS.images]), OTHERS.centers, OTHERS.bones)


def write(image):
    canvas = Image.fromarray(image)
    ImageDraw.Draw(canvas).text((3, 20), "DOE JANE", fill=255, font=ImageFont.load_default(size=12))
    return np.asarray(canvas)


def weave(image):
    grey = image.astype(float)
    grey[:, ::4] *= 1.4
    grey[::4] *= 1.4
    return grey.clip(0, 240).astype(np.uint8)


def test_real_images_of_others_rarely_fail():
    assert np.mean([bool(f) for f in failures(OTHERS, LIMITS)]) < 0.1


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        ("text", write),
        ("grid", weave),
        ("saturation", lambda i: (i * 3.0).clip(0, 255).astype(np.uint8)),
        ("sector", lambda i: np.maximum(i, np.uint8(40))),
        ("gap", lambda i: i * (np.indices(i.shape)[0] < 40).astype(np.uint8)),
        ("shadow", lambda i: np.maximum(i, (90 * (np.indices(i.shape)[0] > 34)).astype(np.uint8))),
    ],
)
def test_a_fault_is_found_and_named(check, fault):
    found = failures(changed(fault), LIMITS)
    assert np.mean([check in f for f in found]) > 0.9
    assert all(f[check].startswith(REASONS[check]) for f in found if check in f)
    assert is_release_metric(f"implausible.{check}")


def test_what_no_eye_sees_is_no_fault():
    """A simulated device is exactly black outside of its sector; a generator leaves a few grey levels there."""
    assert all((image == 0).mean() > 0.2 for image in OTHERS.images)
    assert not any("sector" in f for f in failures(changed(lambda i: np.maximum(i, np.uint8(5))), LIMITS))


def test_single_white_pixels_are_no_fault_and_a_patch_of_them_is():
    def whitened(count):
        def change(image):
            brightest = np.argsort(image.ravel())[-count:]
            return np.where(np.isin(np.arange(image.size), brightest).reshape(image.shape), 255, image).astype(np.uint8)

        return failures(changed(change), LIMITS)

    assert LIMITS.of("harbour", "saturation") == 0.002  # no image of this device reaches white
    assert not any("saturation" in f for f in whitened(2))
    assert all("saturation" in f for f in whitened(16))


def test_a_center_with_few_images_keeps_the_limits_of_all():
    few = Pictures(np.concatenate([pictures(40, 5).images, pictures(4, 6).images]),
                   np.array(["harbour"] * 40 + ["meadow"] * 4), np.zeros((44, SIDE, SIDE), bool))  # fmt: skip
    limits = learn_limits(few)
    assert set(limits.by_center) == {"", "harbour"}
    assert limits.of("meadow", "text") == limits.of("", "text")
    assert limits.of("meadow", "shadow") == float("inf")


def test_an_unknown_center_is_not_judged_by_its_sector():
    assert not any("sector" in f for f in failures(Pictures(OTHERS.images, np.full(60, "?"), OTHERS.bones), LIMITS))


def test_no_bone_has_no_shadow():
    image, bones = fans(1, 3)
    assert np.isnan(shadow_depth(image[0], np.zeros((SIDE, SIDE), bool)))
    assert shadow_depth(image[0], bones[0]) < 0.6
