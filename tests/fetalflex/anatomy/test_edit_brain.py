from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import convex_hull_image

from fetalflex.anatomy.anomalies import apply_anomaly
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, mask_box
from fetalflex.anatomy.measure import region_of
from fetalflex.anatomy.ontology import structure
from fetalflex.errors import AnomalyError
from fetalflex.rng import generator
from tests.fetalflex.anatomy.test_catalogue import phantom_layout


def _depth(head: Mask) -> np.ndarray:
    """Return how deep a pixel lies in the head, as a fraction of its short diameter."""
    inner = ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1]
    return np.asarray(inner / (2 * inner.max()))


@pytest.mark.parametrize("severity", [12.0, 15.0, 18.0])
def test_a_wide_ventricle_leaves_the_skull_its_echo(severity: float) -> None:
    skull = structure("head").wall[1]
    for seed in range(6):
        normal = phantom_layout("transventricular", 26.0, seed)
        wide = apply_anomaly(normal, "ventriculomegaly", severity, generator(seed))
        before, after = region_of(normal, "lateral-ventricle"), region_of(wide, "lateral-ventricle")
        depth = _depth(region_of(normal, "head"))
        assert (after & ~before).sum() > 20
        assert depth[after & ~before].min() > skull - 0.01  # half a pixel


def _slanted_head(angle: float) -> tuple[Layout, np.ndarray]:
    """Return a head of 80 by 62 mm, a narrow ventricle beside its midline, and how far (mm) pixels lie beside that."""
    extent, size = 100.0, 128
    rows, columns = (np.indices((size, size)) + 0.5) * extent / size - extent / 2
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    masks = {
        "head": (along / 40) ** 2 + (across / 31) ** 2 < 1,
        "lateral-ventricle": ((along - 8) / 9) ** 2 + ((across - 4) / 2.5) ** 2 < 1,
    }
    objects = tuple(LayoutObject(n, mask_box(m, extent), m) for n, m in masks.items())
    return Layout("transventricular", "mm", extent, objects, None, 22.0), across


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("severity", [12.0, 18.0])
def test_a_wide_ventricle_stays_on_its_side_of_the_midline(severity: float, angle: float) -> None:
    normal, across = _slanted_head(angle)
    wide = apply_anomaly(normal, "ventriculomegaly", severity, generator(3))
    after = region_of(wide, "lateral-ventricle")
    assert across[after].min() > -0.03 * 62 - 1  # the falx may bulge a little; one pixel of rounding
    assert across[after].max() < 31 - 0.08 * 62 + 1


def test_a_ventricle_wider_than_half_of_the_head_has_no_room() -> None:
    small = phantom_layout("transventricular", 18.0, 1)
    with pytest.raises(AnomalyError, match="room"):
        apply_anomaly(small, "ventriculomegaly", 22.0, generator(1))


def test_a_thin_slanted_ventricle_widens_without_bumps() -> None:
    normal, _ = _slanted_head(0.5)
    coarse = region_of(normal, "lateral-ventricle")[::4, ::4]  # as a small image shows it: stairs, two pixels wide
    stairs = np.kron(coarse, np.ones((4, 4), bool))
    ventricle = normal.find("lateral-ventricle")
    assert ventricle is not None
    stepped = normal.replaced(replace(ventricle, mask=stairs, box=mask_box(stairs, normal.extent)))
    wide = region_of(apply_anomaly(stepped, "ventriculomegaly", 14.0, generator(1)), "lateral-ventricle")
    outline = (wide & ~ndimage.binary_erosion(wide)).sum()
    hull = convex_hull_image(wide)
    assert wide.sum() > 0.93 * hull.sum()
    assert outline < 1.15 * (hull & ~ndimage.binary_erosion(hull)).sum()
