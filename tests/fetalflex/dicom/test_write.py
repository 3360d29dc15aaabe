import tempfile
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy.ontology import structure
from fetalflex.dicom.write import (
    UltrasoundImage,
    compress_jpeg_lossless,
    derive_uid,
    write_boxes,
    write_segmentation,
    write_ultrasound,
)
from fetalflex.errors import AnnotationError, SourceError

SPACING_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


@pytest.fixture
def image() -> UltrasoundImage:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 83), dtype=np.uint8)  # odd size: needs a pad byte
    uids = (derive_uid("image"), derive_uid("study"), derive_uid("series"))
    return UltrasoundImage(pixels, *uids, patient_id="P-1", extra={"StudyDate": "20240105", "StudyTime": "081500"})


@pytest.fixture
def masks() -> dict[str, np.ndarray]:
    head = np.zeros((61, 83), bool)
    head[10:50, 20:70] = True
    csp = np.zeros((61, 83), bool)
    csp[25:30, 40:50] = True
    return {"csp": csp, "head": head}


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-lossless"])
def test_keeps_every_grey_level_in_each_transfer_syntax(image: UltrasoundImage, tmp_path: Path, syntax: str) -> None:
    if syntax == "jpeg-lossless":
        image = replace(image, pixels=image.pixels[:-1])  # GDCM takes even numbers of bytes only
    write_ultrasound(tmp_path / "a.dcm", replace(image, syntax=syntax))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    names = {"explicit": "1.2.840.10008.1.2.1", "rle": "1.2.840.10008.1.2.5", "jpeg-lossless": "1.2.840.10008.1.2.4.70"}
    assert data.file_meta.TransferSyntaxUID == names[syntax]
    assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1"
    assert data.SOPInstanceUID == image.sop_uid
    if syntax != "jpeg-lossless":  # decoding that one takes GDCM, which stays out of this process
        np.testing.assert_array_equal(data.pixel_array, image.pixels)


def test_writes_colour(image: UltrasoundImage, tmp_path: Path) -> None:
    colour = np.random.default_rng(1).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    write_ultrasound(tmp_path / "a.dcm", replace(image, pixels=colour, syntax="rle"))
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "a.dcm").pixel_array, colour)


def test_states_known_spacing_in_centimetres_of_a_region(image: UltrasoundImage, tmp_path: Path) -> None:
    write_ultrasound(tmp_path / "a.dcm", replace(image, spacing_mm=(0.3, 0.2), region=(5, 6, 80, 60)))
    (region,) = pydicom.dcmread(tmp_path / "a.dcm").SequenceOfUltrasoundRegions
    assert (region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection) == (3, 3)
    assert (region.PhysicalDeltaX, region.PhysicalDeltaY) == pytest.approx((0.02, 0.03))
    assert (region.RegionLocationMinX0, region.RegionLocationMaxX1) == (5, 79)
    assert (region.RegionLocationMinY0, region.RegionLocationMaxY1) == (6, 59)


def test_invents_no_spacing(image: UltrasoundImage, masks: dict[str, np.ndarray], tmp_path: Path) -> None:
    data = write_ultrasound(tmp_path / "a.dcm", replace(image, region=(5, 6, 80, 60)))
    plain = write_ultrasound(tmp_path / "b.dcm", image)
    segmentation = write_segmentation(tmp_path / "s.dcm", data, masks, "seed")
    for written in (data, plain, segmentation):
        assert not [e.keyword for e in written.iterall() if e.keyword in SPACING_KEYWORDS]
    assert data.SequenceOfUltrasoundRegions[0].PhysicalUnitsXDirection == 0
    assert data.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0
    assert "SequenceOfUltrasoundRegions" not in plain


def test_states_gestational_age_only_where_known(image: UltrasoundImage, tmp_path: Path) -> None:
    (item,) = write_ultrasound(tmp_path / "a.dcm", replace(image, age_weeks=22.43)).AcquisitionContextSequence
    assert item.ConceptNameCodeSequence[0].CodeValue == "18185-9"
    assert item.MeasurementUnitsCodeSequence[0].CodeValue == "wk"
    assert float(item.NumericValue) == pytest.approx(22.43)
    assert "AcquisitionContextSequence" not in write_ultrasound(tmp_path / "b.dcm", image)


def test_marks_what_was_compressed_with_loss(image: UltrasoundImage, tmp_path: Path) -> None:
    data = write_ultrasound(tmp_path / "a.dcm", replace(image, lossy_note="JPEG by the publisher"))
    assert (data.LossyImageCompression, data.ImageType[0]) == ("01", "DERIVED")
    assert write_ultrasound(tmp_path / "b.dcm", image).LossyImageCompression == "00"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": np.zeros((4, 4), np.float32)}, "expected uint8"),
        ({"spacing_mm": (0.0, 0.1)}, "positive"),
        ({"region": (0, 0, 900, 10)}, "leaves the frame"),
    ],
)
def test_refuses_impossible_images(image: UltrasoundImage, tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        write_ultrasound(tmp_path / "a.dcm", replace(image, **change))
    assert not list(tmp_path.iterdir())


def test_names_the_file_that_the_codec_refuses(image: UltrasoundImage, tmp_path: Path) -> None:
    write_ultrasound(tmp_path / "a.dcm", replace(image, pixels=image.pixels[:-1]))
    (tmp_path / "b.dcm").write_bytes(b"no dicom")
    with pytest.raises(SourceError, match="file 2"):
        compress_jpeg_lossless([tmp_path / "a.dcm", tmp_path / "b.dcm"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dcm", "b.dcm"]


def test_writes_overlapping_masks_as_coded_segments(
    image: UltrasoundImage, masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    data = write_ultrasound(tmp_path / "a.dcm", image)
    write_segmentation(tmp_path / "s.dcm", data, masks, "seed")
    read = hd.seg.segread(tmp_path / "s.dcm")
    assert [read.get_segment_description(i).segment_label for i in (1, 2)] == ["head", "csp"]
    assert read.get_segment_description(1).segmented_property_type.value == structure("head").code
    found = read.get_pixels_by_source_instance([image.sop_uid])[0]
    np.testing.assert_array_equal(found[..., 0], masks["head"])
    np.testing.assert_array_equal(found[..., 1], masks["csp"])


def test_writes_boxes_as_closed_rectangles(image: UltrasoundImage, tmp_path: Path) -> None:
    data = write_ultrasound(tmp_path / "a.dcm", image)
    write_boxes(tmp_path / "b.dcm", data, {"csp": [(30, 20, 40.5, 30)], "head": [(1, 2, 83, 61)]}, "seed")
    groups = hd.sr.srread(tmp_path / "b.dcm").content.get_planar_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == ["head 1", "csp 1"]
    assert groups[1].finding_type.value == structure("csp").code
    corners = groups[1].roi.value
    assert corners.tolist() == [[30, 20], [40.5, 20], [40.5, 30], [30, 30], [30, 20]]


def test_equal_input_gives_equal_bytes(image: UltrasoundImage, masks: dict[str, np.ndarray], tmp_path: Path) -> None:
    written = []
    for run in ("1", "2"):
        folder = tmp_path / run
        data = write_ultrasound(folder / "a.dcm", replace(image, syntax="rle", age_weeks=21.0))
        write_segmentation(folder / "s.dcm", data, masks, "seed")
        write_boxes(folder / "b.dcm", data, {"head": [(1, 2, 30, 40)]}, "seed")
        written.append([p.read_bytes() for p in sorted(folder.iterdir())])
    assert written[0] == written[1]


def test_refuses_annotations_that_do_not_fit(
    image: UltrasoundImage, masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    data = write_ultrasound(tmp_path / "a.dcm", image)
    with pytest.raises(AnnotationError, match="unknown"):
        write_segmentation(tmp_path / "s.dcm", data, {"tail": masks["csp"]}, "seed")
    with pytest.raises(AnnotationError, match="expected the image's"):
        write_segmentation(tmp_path / "s.dcm", data, {"csp": masks["csp"][1:]}, "seed")
    with pytest.raises(AnnotationError, match="at least one"):
        write_segmentation(tmp_path / "s.dcm", data, {}, "seed")
    with pytest.raises(AnnotationError, match="leaves the image"):
        write_boxes(tmp_path / "b.dcm", data, {"head": [(1, 2, 100, 4)]}, "seed")
    assert [p.name for p in tmp_path.iterdir()] == ["a.dcm"]


def test_uids_do_not_collide_and_are_legal() -> None:
    assert derive_uid("ab", "c") != derive_uid("a", "bc")
    assert all(len(derive_uid(i)) <= 64 and pydicom.uid.UID(derive_uid(i)).is_valid for i in range(100))


def test_states_type_2_attributes_even_where_nothing_is_known(image: UltrasoundImage, tmp_path: Path) -> None:
    write_ultrasound(tmp_path / "a.dcm", replace(image, extra={}))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
                    "ReferringPhysicianName", "PatientOrientation", "Manufacturer"):  # fmt: skip
        assert keyword in data
        assert not data[keyword].value
    assert "BurnedInAnnotation" not in data


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 80), st.integers(0, 58), st.floats(0.5, 2.9), st.floats(0.5, 2.9))
def test_any_box_inside_comes_back(x0: int, y0: int, width: float, height: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        uids = (derive_uid("image"), derive_uid("study"), derive_uid("series"))
        data = write_ultrasound(Path(folder) / "a.dcm", UltrasoundImage(np.zeros((61, 83), np.uint8), *uids, "P"))
        write_boxes(Path(folder) / "b.dcm", data, {"head": [(x0, y0, x0 + width, y0 + height)]}, "seed")
        (group,) = hd.sr.srread(Path(folder) / "b.dcm").content.get_planar_roi_measurement_groups()
        corners = group.roi.value
    found = (*corners.min(axis=0), *corners.max(axis=0))
    assert found == pytest.approx((x0, y0, x0 + width, y0 + height), abs=1e-4)
