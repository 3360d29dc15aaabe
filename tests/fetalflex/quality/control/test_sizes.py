import numpy as np
import pytest

from fetalflex.quality.control.sizes import SIZES, size_errors
from tests.fetalflex.quality.control.judged import ellipse, judged

HEAD, BIGGER = ellipse(32, 32, 20, 15), ellipse(32, 32, 22, 16.5)


def test_errors_have_the_sign_and_size_of_what_was_seen():
    errors = size_errors(judged([{"head": (BIGGER, HEAD)}, {"head": (HEAD, BIGGER)}], mm=2.0))
    assert errors["hc"][0] == pytest.approx(2 * 11.05, rel=0.05)  # 10 % of 2 pi sqrt((20^2 + 15^2) / 2) pixels
    assert errors["bpd"] == pytest.approx([6.0, -6.0], abs=0.7)  # to a third of a pixel
    assert np.isnan(errors["femur_length"]).all()


def test_a_ratio_needs_no_spacing_and_both_structures():
    both = {"heart": (ellipse(32, 32, 12, 12), ellipse(32, 32, 10, 10)), "thorax": (ellipse(32, 32, 25, 25),) * 2}
    errors = size_errors(judged([both, {"heart": both["heart"]}], mm=float("nan")))["cardiothoracic_ratio"]
    assert errors[0] == pytest.approx(0.08, abs=0.01)
    assert np.isnan(errors[1])


def test_what_is_not_seen_has_no_size():
    nothing = np.zeros((64, 64), bool)
    case = judged([{"head": (nothing, HEAD), "femur": (nothing, ellipse(32, 32, 20, 2)),
                    "lateral-ventricle": (nothing, ellipse(32, 32, 5, 3))}])  # fmt: skip
    assert all(np.isnan(size_errors(case)[name]).all() for name in SIZES)


def test_stray_pixels_change_no_size():
    speck = HEAD.copy()
    speck[2, 2] = True
    assert size_errors(judged([{"head": (speck, HEAD)}]))["hc"][0] == pytest.approx(0, abs=1e-9)
