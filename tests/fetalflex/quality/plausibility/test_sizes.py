import csv

import numpy as np
import pytest

from fetalflex.anatomy.biometry import mean_mm
from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.quality.plausibility.sizes import out_of_range


def head(weeks, scale=1.0, unit="mm"):
    long, short = (mean_mm(m, weeks) * scale for m in ("ofd", "bpd"))
    extent = 240.0 if unit == "mm" else 1.0
    box = (20, 20, 20 + long, 20 + short) if unit == "mm" else (0.1, 0.1, 0.9, 0.7)
    return Layout("transventricular", unit, extent, (LayoutObject("head", box),), "harbour", weeks)


@pytest.mark.parametrize("weeks", [16.0, 22.0, 30.0])
def test_the_mean_size_of_an_age_is_in_range_and_much_more_or_less_is_not(weeks):
    assert out_of_range(head(weeks)) is None
    for scale in (0.6, 1.5):
        told = out_of_range(head(weeks, scale))
        assert told is not None
        assert f"at {weeks:.1f} weeks" in told


def test_without_an_age_any_age_will_do():
    layout = head(22.0)
    ageless = Layout(layout.plane, "mm", layout.extent, layout.objects, layout.center, None)
    assert out_of_range(ageless) is None
    tiny = Layout("femur", "mm", 160.0, (LayoutObject("femur", (20, 20, 150, 30)),), "harbour", None)
    assert "at any age" in str(out_of_range(tiny))


def circled(circumference_mm, weeks=None):
    """A head of the usual form and this circumference (an ellipse's, nearly that of its mean diameter)."""
    short = circumference_mm / np.pi / 1.135
    box = (20, 20, 20 + 1.27 * short, 20 + short)
    return Layout("brain", "mm", 160.0, (LayoutObject("head", box),), "harbour", weeks)


@pytest.mark.parametrize(("weeks", "mm"), [(None, 45), (None, 65), (11.5, 62), (12.0, 72), (13.5, 92), (14.0, 98)])
def test_heads_of_the_first_trimester_are_possible(weeks, mm):
    assert out_of_range(circled(mm, weeks)) is None


def test_no_scan_shows_so_small_a_head():
    assert "at any age" in str(out_of_range(circled(30)))
    assert "at 13.0 weeks" in str(out_of_range(circled(45, 13.0)))


def test_heads_that_experts_outlined_are_possible(real_data):
    # Of HC18 a third is of the first trimester, before the growth charts begin.
    with (real_data / "hc18" / "training_set_pixel_size_and_HC.csv").open() as stream:
        told = [out_of_range(circled(float(row["head circumference (mm)"]))) for row in csv.DictReader(stream)]
    assert not [t for t in told if t]


def test_layouts_without_millimetres_pass():
    assert out_of_range(head(22.0, unit="image")) is None
