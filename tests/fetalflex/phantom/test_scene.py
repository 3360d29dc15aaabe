import numpy as np
import pytest

from fetalflex.anatomy.ontology import plane as ontology_plane
from fetalflex.anatomy.ontology import structure
from fetalflex.errors import LayoutError
from fetalflex.phantom.planes import PLANS, semi_axes
from fetalflex.phantom.scene import make_scene
from fetalflex.phantom.tissues import INDEX, TISSUES
from fetalflex.rng import generator

STEP = 0.25
AGES = (18.0, 22.5, 28.0, 34.0)
PARENTS = {
    "csp": "head", "lateral-ventricle": "head", "stomach": "abdomen", "umbilical-vein": "abdomen", "heart": "thorax",
    "left-ventricle": "heart", "right-ventricle": "heart", "left-atrium": "heart", "right-atrium": "heart",
    "thalami": "head", "cerebellum": "head", "cisterna-magna": "head", "kidney": "abdomen", "renal-pelvis": "kidney",
    "nose": "head", "upper-lip": "head", "lower-lip": "head", "mandible": "head", "nasal-bone": "head",
}  # fmt: skip
APART = (
    ("left-ventricle", "right-ventricle"), ("left-atrium", "right-atrium"), ("left-ventricle", "left-atrium"),
    ("csp", "lateral-ventricle"), ("stomach", "umbilical-vein"), ("cerebellum", "cisterna-magna"),
    ("cerebellum", "thalami"), ("thalami", "csp"), ("kidney", "spine"), ("upper-lip", "lower-lip"),
    ("nose", "upper-lip"), ("nose", "nasal-bone"),
)  # fmt: skip


def drawn(plane: str, weeks: float, seed: int = 0):
    scene = make_scene(plane, weeks, generator(seed, plane))
    x, y = np.meshgrid(np.arange(-110, 110, STEP), np.arange(0, scene.depth_mm + 40, STEP))
    return scene, *scene.draw(x, y)


def ellipse_of(mask: np.ndarray) -> tuple[float, float]:
    """Semi-axes in mm of the ellipse with the mask's second moments."""
    b, a = 2 * np.sqrt(np.linalg.eigvalsh(np.cov(np.argwhere(mask).T * STEP)))
    return a, b


def perimeter(mask: np.ndarray) -> float:
    a, b = ellipse_of(mask)
    return float(np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))))


@pytest.mark.parametrize("weeks", AGES)
@pytest.mark.parametrize(
    ("plane", "structure", "measure"),
    [("transventricular", "head", "hc"), ("abdomen", "abdomen", "ac"), ("four-chamber", "heart", "heart")],
)
def test_circumference_is_the_one_asked_for(plane: str, structure: str, measure: str, weeks: float) -> None:
    scene, _, masks = drawn(plane, weeks)
    assert perimeter(masks[structure]) == pytest.approx(scene.anatomy.sizes_mm[measure], rel=0.02)


@pytest.mark.parametrize("weeks", AGES)
def test_diameters_and_lengths_are_the_ones_asked_for(weeks: float) -> None:
    scene, _, masks = drawn("transventricular", weeks)
    assert 2 * ellipse_of(masks["head"])[1] == pytest.approx(scene.anatomy.sizes_mm["bpd"], rel=0.02)
    scene, _, masks = drawn("femur", weeks)
    points = np.argwhere(masks["femur"]) * STEP
    assert np.linalg.norm(np.ptp(points, axis=0)) == pytest.approx(scene.anatomy.sizes_mm["fl"], rel=0.06)


@pytest.mark.parametrize("seed", range(4))
def test_ventricle_is_normal_and_as_wide_as_asked(seed: int) -> None:
    from fetalflex.anatomy.anomalies import atrial_width

    scene, _, masks = drawn("transventricular", 20.0 + 3 * seed, seed)
    mask = masks["lateral-ventricle"]
    side = max(mask.shape)
    square = np.zeros((side, side), bool)
    square[: mask.shape[0], : mask.shape[1]] = mask
    width = atrial_width(square, side * STEP)
    assert width == pytest.approx(scene.anatomy.sizes_mm["atrium"], abs=0.6)
    assert width < 10


@pytest.mark.parametrize("weeks", AGES)
@pytest.mark.parametrize("plane", PLANS)
def test_draws_every_structure_of_its_plane_inside_its_parent(plane: str, weeks: float) -> None:
    for seed in range(3):
        _, _, masks = drawn(plane, weeks, seed)
        assert set(masks) == {n for n in ontology_plane(plane).structures if structure(n).seen_normally}
        for name, mask in masks.items():
            assert mask.any(), name
            if name in PARENTS and PARENTS[name] in masks:
                assert not (mask & ~masks[PARENTS[name]]).any(), name
    for one, other in APART:
        if one in masks and other in masks:
            assert not (masks[one] & masks[other]).any()


def test_left_atrium_lies_next_to_the_spine() -> None:
    for seed in range(5):
        _, _, masks = drawn("four-chamber", 24.0, seed)
        spine = np.argwhere(masks["spine"]).mean(axis=0)
        distance = {n: np.linalg.norm(np.argwhere(masks[n]).mean(axis=0) - spine) for n in masks if "-" in n}
        assert min(distance, key=distance.get) == "left-atrium"


def test_ventricle_is_in_the_hemisphere_away_from_the_probe() -> None:
    for seed in range(5):
        _, _, masks = drawn("transventricular", 24.0, seed)
        assert np.argwhere(masks["lateral-ventricle"])[:, 0].mean() > np.argwhere(masks["head"])[:, 0].mean()


def test_masks_hold_the_tissue_they_name() -> None:
    _, tissue, masks = drawn("abdomen", 24.0)
    assert (tissue[masks["stomach"]] == INDEX["fluid"]).all()
    _, tissue, masks = drawn("femur", 24.0)
    assert (tissue[masks["femur"]] == INDEX["shaft"]).all()
    assert tissue.max() < len(TISSUES)


def test_masks_are_the_same_on_any_grid() -> None:
    scene = make_scene("four-chamber", 24.0, generator(1))
    x, y = np.meshgrid(np.arange(-60, 60, 1.0), np.arange(0, 120, 1.0))
    whole, masks = scene.draw(x, y)
    np.testing.assert_array_equal(scene.draw(x[::2, ::3], y[::2, ::3])[0], whole[::2, ::3])
    np.testing.assert_array_equal(scene.masks(x, y)["heart"], masks["heart"])


def test_ellipse_has_the_circumference() -> None:
    assert semi_axes(2 * np.pi * 10, 1.0) == pytest.approx((10, 10))


def test_refuses_other_planes_and_ages() -> None:
    with pytest.raises(LayoutError, match="no plane 'brain'"):
        make_scene("brain", 22.0, generator(1))
    with pytest.raises(LayoutError, match="18 to 34"):
        make_scene("femur", 12.0, generator(1))
