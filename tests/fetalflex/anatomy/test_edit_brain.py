import numpy as np
import pytest
from scipy import ndimage

from fetalflex.anatomy.anomalies import apply_anomaly
from fetalflex.anatomy.layout import Mask
from fetalflex.anatomy.measure import region_of
from fetalflex.anatomy.ontology import structure
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
