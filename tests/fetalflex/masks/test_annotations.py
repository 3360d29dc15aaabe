from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.sr.coding import Code

from fetalflex.dicom.read import read_header
from fetalflex.dicom.region import fit_geometry
from fetalflex.dicom.write import derive_uid, write_boxes, write_segmentation
from fetalflex.errors import QuarantineError, Reason
from fetalflex.masks.annotations import (
    Annotation,
    fit_annotation,
    is_annotation,
    mask_bounds,
    read_annotations,
    referenced_instances,
)
from tests.fetalflex.dicom.samples import head_mask, write_image


@pytest.fixture
def image(tmp_path: Path) -> Dataset:
    return write_image(tmp_path / "image.dcm")


def test_reads_back_the_masks_that_the_writer_wrote(image: Dataset, tmp_path: Path) -> None:
    masks = {"head": head_mask(), "csp": head_mask() & (np.arange(160) > 110)}
    write_segmentation(tmp_path / "a.seg", image, masks, "a")
    header = read_header(tmp_path / "a.seg")
    assert is_annotation(header)
    assert referenced_instances(header) == (image.SOPInstanceUID,)
    read = read_annotations(tmp_path / "a.seg", image.SOPInstanceUID)
    assert (read.unknown, read.shape) == (0, (120, 160))
    assert {a.structure for a in read.known} == {"head", "csp"}
    for item in read.known:
        assert item.mask is not None
        np.testing.assert_array_equal(item.mask, masks[item.structure])
        assert item.box == mask_bounds(masks[item.structure])


def test_an_empty_segment_is_left_out(image: Dataset, tmp_path: Path) -> None:
    write_segmentation(tmp_path / "a.seg", image, {"head": head_mask(), "csp": np.zeros((120, 160), bool)}, "a")
    assert [a.structure for a in read_annotations(tmp_path / "a.seg", image.SOPInstanceUID).known] == ["head"]


def test_reads_back_the_boxes_that_the_writer_wrote(image: Dataset, tmp_path: Path) -> None:
    boxes = {"head": [(10.0, 20.0, 90.5, 100.0)], "csp": [(40.0, 50.0, 60.0, 60.0), (1.0, 2.0, 3.0, 4.0)]}
    write_boxes(tmp_path / "a.sr", image, boxes, "a")
    header = read_header(tmp_path / "a.sr")
    assert is_annotation(header)
    assert referenced_instances(header) == (image.SOPInstanceUID,)
    read = read_annotations(tmp_path / "a.sr", image.SOPInstanceUID)
    found = {name: sorted(a.box for a in read.known if a.structure == name) for name in boxes}
    assert found == {name: sorted(values) for name, values in boxes.items()}
    assert all(a.mask is None for a in read.known)


def test_counts_boxes_and_segments_of_unknown_structures(image: Dataset, tmp_path: Path) -> None:
    write_boxes(tmp_path / "a.sr", image, {"csp": [(1, 2, 3, 4)], "head": [(5, 6, 7, 8)]}, "a")
    write_segmentation(tmp_path / "a.seg", image, {"csp": head_mask(), "head": head_mask()}, "a")
    for name in ("a.sr", "a.seg"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes().replace(b"74968005", b"74968006"))
        read = read_annotations(path, image.SOPInstanceUID)
        assert ([a.structure for a in read.known], read.unknown) == (["head"], 1)


def test_reads_fractional_segmentations_cut_at_one_half(image: Dataset, tmp_path: Path) -> None:
    levels = np.where(head_mask(), 0.8, 0.3).astype(np.float32)[None, ..., None]
    kind = Code("123037004", "SCT", "Anatomical Structure")
    segment = hd.seg.SegmentDescription(
        1, "head", kind, Code("69536005", "SCT", "Head"), hd.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    data = hd.seg.Segmentation(
        [image], levels, hd.seg.SegmentationTypeValues.FRACTIONAL, [segment], series_number=1, instance_number=1,
        series_instance_uid=derive_uid("s"), sop_instance_uid=derive_uid("i"), manufacturer="m",
        manufacturer_model_name="m", software_versions="1", device_serial_number="1",
    )  # fmt: skip
    data.save_as(tmp_path / "a.seg")
    (item,) = read_annotations(tmp_path / "a.seg", image.SOPInstanceUID).known
    np.testing.assert_array_equal(item.mask, head_mask())


def test_takes_only_what_belongs_to_the_image_asked_for(image: Dataset, tmp_path: Path) -> None:
    write_segmentation(tmp_path / "a.seg", image, {"head": head_mask()}, "a")
    write_boxes(tmp_path / "a.sr", image, {"head": [(1, 2, 3, 4)]}, "a")
    for name in ("a.seg", "a.sr"):
        with pytest.raises(QuarantineError) as caught:
            read_annotations(tmp_path / name, "1.2.3")
        assert caught.value.reason == Reason.NO_ANNOTATION


def test_a_damaged_object_is_one_reason(image: Dataset, tmp_path: Path) -> None:
    write_segmentation(tmp_path / "a.seg", image, {"head": head_mask()}, "a")
    data = dcmread(tmp_path / "a.seg")
    del data.SegmentSequence[0].SegmentNumber
    dcmwrite(tmp_path / "a.seg", data)
    with pytest.raises(QuarantineError) as caught:
        read_annotations(tmp_path / "a.seg", image.SOPInstanceUID)
    assert caught.value.reason == Reason.DECODE_FAILED


def test_what_lies_outside_the_crop_is_none() -> None:
    geometry = fit_geometry((0, 0, 40, 30), None, 64)
    assert fit_annotation(Annotation("head", None, (60, 60, 70, 70)), geometry) is None
    mask = np.zeros((120, 160), bool)
    mask[60:70, 60:70] = True
    assert fit_annotation(Annotation("head", mask, (60, 60, 70, 70)), geometry) is None
    fitted = fit_annotation(Annotation("head", None, (30, 20, 70, 70)), geometry)
    assert fitted is not None
    assert fitted.box == (30, 20, 40, 30)
