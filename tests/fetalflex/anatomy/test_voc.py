import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.anatomy.interchange import Reading
from fetalflex.anatomy.shapes import Polyline
from fetalflex.anatomy.voc import layout_from_voc, turn
from fetalflex.errors import AnnotationError, LayoutError

NAMES = {"Brain": "head", "CSP": "csp", "LV": "lateral-ventricle"}
READING = Reading("transventricular", spacing_mm=0.5, names=NAMES)
SIZE = "<size><width>60</width><height>40</height></size>"
BOX = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>40</xmax><ymax>25</ymax></bndbox>"


def write(path: Path, *objects: str, size: str = SIZE, name: str = "Brain") -> Path:
    items = "".join(f"<object><name>{name}</name>{o}</object>" for o in objects)
    path.write_text(f"<annotation>{size}{items}</annotation>")
    return path


def test_upright_boxes_are_boxes_in_mm(tmp_path: Path) -> None:
    (item,) = layout_from_voc(write(tmp_path / "a.xml", BOX), READING).objects
    assert item.box == pytest.approx((5.0, 7.5, 20.0, 17.5))
    assert (item.structure, item.shape, item.mask) == ("head", None, None)


def test_turned_boxes_are_closed_lines(tmp_path: Path) -> None:
    robot = "<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle></robndbox>"
    other = BOX + "<attributes>x=1, rotation=90.0</attributes>"
    one, two = layout_from_voc(write(tmp_path / "a.xml", robot, other), READING).objects
    assert isinstance(one.shape, Polyline)
    assert one.box == pytest.approx((12.5, 10.0, 17.5, 20.0))
    assert two.box == pytest.approx((7.5, 5.0, 17.5, 20.0))


@given(st.floats(-3, 3), st.floats(1, 9), st.floats(1, 9))
def test_turning_back_gives_the_points_back(angle: float, w: float, h: float) -> None:
    points = [(-w, -h), (w, -h), (w, h), (-w, h)]
    back = turn(turn(points, angle), -angle)
    assert np.allclose(back, points, atol=1e-9)


@pytest.mark.parametrize(
    ("objects", "change", "message"),
    [
        ((BOX,), {"name": "moon"}, "label 'moon' is no structure"),
        (("",), {}, "neither box nor outline"),
        ((BOX,), {"size": ""}, "no size"),
        ((BOX.replace("10", "ten"),), {}, "no Pascal VOC"),
        ((BOX,), {"size": SIZE.replace("60", "90000")}, "90000 x 40 pixels"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, objects: tuple[str, ...], change: dict[str, str], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        layout_from_voc(write(tmp_path / "a.xml", *objects, **change), READING)


def test_hostile_or_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<!DOCTYPE x [<!ENTITY a 'b'>]><annotation/>")
    with pytest.raises(AnnotationError, match="declares entities"):
        layout_from_voc(tmp_path / "a.xml", READING)
    (tmp_path / "b.xml").write_text("no xml")
    with pytest.raises(AnnotationError, match="no Pascal VOC"):
        layout_from_voc(tmp_path / "b.xml", READING)
    far = BOX.replace("<xmax>40", "<xmax>80")
    with pytest.raises(LayoutError, match="leaves the frame"):
        layout_from_voc(write(tmp_path / "c.xml", far), READING)


@pytest.mark.skipif("FETALFLEX_DATA" not in os.environ, reason="FETALFLEX_DATA is not set: the public sets are absent")
def test_reads_the_boxes_of_the_public_set_as_the_import_does() -> None:
    from fetalflex.sources import public

    folder = Path(os.environ["FETALFLEX_DATA"]) / "barcelona_transventricular" / "boxes_voc"
    paths = sorted(folder.glob("*.xml"))[:60]
    if not paths:
        pytest.skip("barcelona_transventricular is not in FETALFLEX_DATA")
    for path in paths:
        layout = layout_from_voc(path, Reading("transventricular", names=NAMES))
        side = 959.0
        boxes = public._voc_boxes(path, (661, 959))
        offset = (959 - 661) // 2
        for name, found in boxes.items():
            mine = [np.array(o.box) * side - (0, offset, 0, offset) for o in layout.all(name)]
            for box in found:
                assert min(np.abs(m - np.array(box)).max() for m in mine) < 1.01
