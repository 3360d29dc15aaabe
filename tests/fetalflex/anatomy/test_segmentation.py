from pathlib import Path

import numpy as np
import pytest

from fetalflex.anatomy.interchange import Reading
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.segmentation import layout_from_segmentation
from fetalflex.dicom.write import UltrasoundImage, derive_uid, write_segmentation, write_ultrasound
from fetalflex.errors import AnnotationError, LayoutError

SHAPE = (48, 64)


@pytest.fixture
def segmentation(tmp_path: Path) -> tuple[Path, str, dict[str, np.ndarray]]:
    head, csp = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    head[4:44, 6:58], csp[20:24, 40:48] = True, True
    image = UltrasoundImage(
        pixels=np.full(SHAPE, 90, np.uint8), sop_uid=derive_uid("t", "image"), study_uid=derive_uid("t", "study"),
        series_uid=derive_uid("t", "series"), patient_id="P1", spacing_mm=(0.5, 0.5),
    )  # fmt: skip
    data = write_ultrasound(tmp_path / "image.dcm", image)
    masks = {"head": head, "csp": csp}
    write_segmentation(tmp_path / "seg.dcm", data, masks, image.sop_uid)
    return tmp_path / "seg.dcm", image.sop_uid, masks


def test_masks_come_back_pixel_for_pixel(segmentation: tuple[Path, str, dict[str, np.ndarray]]) -> None:
    path, uid, masks = segmentation
    layout = layout_from_segmentation(path, uid, SHAPE, Reading("brain", spacing_mm=0.5, age_weeks=20.0))
    assert (layout.unit, layout.extent, layout.age_weeks) == ("mm", 32.0, 20.0)
    assert {o.structure for o in layout.objects} == set(masks)
    for item in layout.objects:
        assert np.array_equal(item.mask[8:56], masks[item.structure])
    again = Layout.from_json(layout.to_json())
    assert np.array_equal(rasterize(again, 64).maps, rasterize(layout, 64).maps)


def test_says_what_is_wrong(segmentation: tuple[Path, str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    path, uid, _ = segmentation
    with pytest.raises(LayoutError, match="no structure of plane 'femur'"):
        layout_from_segmentation(path, uid, SHAPE, Reading("femur"))
    with pytest.raises(AnnotationError, match=r"expected its image's \(10, 10\)"):
        layout_from_segmentation(path, uid, (10, 10), Reading("brain"))
    with pytest.raises(AnnotationError, match="no annotations"):
        layout_from_segmentation(path, "1.2.3", SHAPE, Reading("brain"))
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    with pytest.raises(AnnotationError, match="no annotations"):
        layout_from_segmentation(tmp_path / "x.dcm", uid, SHAPE, Reading("brain"))
