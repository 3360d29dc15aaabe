import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import UltrasoundImageStorage

from fetalflex.anatomy.interchange import Reading
from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.segmentation import layout_from_segmentation
from fetalflex.synthesis.dicom_out import Synthetic, write_synthetic
from tests.fetalflex import tiny

DCIODVFY = shutil.which("dciodvfy")
# What it finds in the objects that this project writes of real data, too, and an attribute younger than its dictionary.
KNOWN = ("Attribute with an even group number is not a recognized standard attribute",)
OF_HIGHDICOM = "</PatientOrientation(0020,0020)> - Missing attribute for Type 2C Conditional"
PIXELS = tiny.cases(1).images[0]
LAYOUT = replace(tiny.layout(), age_weeks=22.0)


def synthetic(layout: Layout = LAYOUT, number: int = 3, seed: str = "7") -> Synthetic:
    return Synthetic(PIXELS, layout, number, (seed, "model", layout.plane, "layout"))


def test_image_says_that_it_is_synthetic_and_shows_nobody(tmp_path: Path) -> None:
    path, *_ = write_synthetic(tmp_path, "a", synthetic())
    data = dcmread(path)
    assert data.SOPClassUID == UltrasoundImageStorage
    assert list(data.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert (data.SyntheticData, data.BurnedInAnnotation, data.LossyImageCompression) == ("YES", "NO", "00")
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
        assert not data[keyword].value
    assert "not for diagnosis" in data.ImageComments
    assert np.array_equal(data.pixel_array, PIXELS)


def test_spacing_is_stated_where_the_layout_is_in_mm_alone(tmp_path: Path) -> None:
    write_synthetic(tmp_path, "mm", synthetic())
    write_synthetic(tmp_path, "image", synthetic(Layout("femur", "image", 1.0, ())))
    region = dcmread(tmp_path / "mm.dcm").SequenceOfUltrasoundRegions[0]
    assert (region.PhysicalUnitsXDirection, region.PhysicalDeltaX) == (3, pytest.approx(64 / 32 / 10))
    assert "SequenceOfUltrasoundRegions" not in dcmread(tmp_path / "image.dcm")


def test_outlines_are_a_segmentation_that_gives_the_layout_back(tmp_path: Path) -> None:
    image, seg = write_synthetic(tmp_path, "a", synthetic())
    uid = str(dcmread(image).SOPInstanceUID)
    read = hd.seg.segread(seg)
    assert read.get_segment_description(1).algorithm_type == hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    assert read.SyntheticData == "YES"
    layout = layout_from_segmentation(seg, uid, PIXELS.shape, Reading("transventricular", 2.0))
    for item in LAYOUT.objects:
        found = layout.find(item.structure)
        assert found is not None
        assert found.mask is not None
        assert np.array_equal(found.mask, item.mask)


def test_boxes_are_a_report(tmp_path: Path) -> None:
    paths = write_synthetic(tmp_path, "a", synthetic(tiny.layout(boxed=True)))
    assert [p.name for p in paths] == ["a.dcm", "a-boxes.dcm"]
    groups = hd.sr.srread(paths[1]).content.get_planar_roi_measurement_groups()
    assert {g.tracking_identifier for g in groups} == {"head 1", "csp 1"}


def test_uids_and_bytes_are_functions_of_seed_and_image(tmp_path: Path) -> None:
    for folder in ("1", "2"):
        write_synthetic(tmp_path / folder, "a", synthetic())
    for name in ("a.dcm", "a-seg.dcm"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    write_synthetic(tmp_path, "b", synthetic(number=4))
    write_synthetic(tmp_path, "c", synthetic(seed="8"))
    one, same_study, other = (dcmread(p) for p in (tmp_path / "1" / "a.dcm", tmp_path / "b.dcm", tmp_path / "c.dcm"))
    assert len({str(d.SOPInstanceUID) for d in (one, same_study, other)}) == 3
    assert one.StudyInstanceUID == same_study.StudyInstanceUID != other.StudyInstanceUID


@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("layout", [LAYOUT, tiny.layout(boxed=True), Layout("femur", "image", 1.0, ())])
def test_dciodvfy_finds_no_new_error(tmp_path: Path, layout: Layout) -> None:
    for path in write_synthetic(tmp_path, "a", synthetic(layout)):
        done = subprocess.run([str(DCIODVFY), "-new", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        known = (*KNOWN, OF_HIGHDICOM) if path.name.endswith("-seg.dcm") else KNOWN
        assert not [e for e in errors if not any(k in e for k in known)], path.name
        assert all("(0008,001c)" in e for e in errors if KNOWN[0] in e)
