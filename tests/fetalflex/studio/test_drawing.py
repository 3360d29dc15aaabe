import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.shapes import Polyline
from fetalflex.studio.drawing import COLOURS, draw_layout
from tests.fetalflex.studio.rooms import head


def test_an_outline_of_a_mask_encloses_its_pixels_and_no_others() -> None:
    layout = head().drawn(64)
    mask = layout.objects[0].mask
    assert mask is not None
    path = draw_layout(layout)[0].path
    points = [tuple(16 * 64 / 100 * float(v) for v in p.split()) for p in re.split("[MLZ]", path) if p]
    canvas = Image.new("1", (64 * 16, 64 * 16))
    ImageDraw.Draw(canvas).polygon(points, fill=1)
    assert np.array_equal(np.asarray(canvas)[8::16, 8::16], mask)


def test_frames_lie_along_the_objects_own_axes() -> None:
    shaped, masked = draw_layout(head())[2], draw_layout(head().drawn(256))[2]
    assert shaped.angle_deg == 20
    assert masked.angle_deg == pytest.approx(20, abs=2)
    assert masked.half == pytest.approx(shaped.half, abs=0.6)
    assert masked.centre == pytest.approx(shaped.centre, abs=0.3)


def test_every_form_is_drawn() -> None:
    lines = [Polyline(((0.2, 0.5), (0.7, 0.5)), False, 0.05), Polyline(((0.2, 0.2), (0.7, 0.2), (0.4, 0.7)))]
    layout = Layout("femur", "image", 1.0, tuple(LayoutObject.of("femur", v) for v in lines))
    for drawn in [*draw_layout(layout), *draw_layout(head().boxes_only()), *draw_layout(replace(head(), objects=()))]:
        assert drawn.path.startswith("M")
        assert drawn.path.endswith("Z")
        assert drawn.colour in COLOURS
