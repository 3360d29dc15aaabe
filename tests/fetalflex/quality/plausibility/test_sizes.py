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


def test_layouts_without_millimetres_pass():
    assert out_of_range(head(22.0, unit="image")) is None
