import io
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from fetalflex.deid.allowlist import patient_pseudonym
from fetalflex.deid.header import Changes, clean_header, state_pixels_cleaned
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.deid.values import keyed_uid
from fetalflex.dicom.read import read_header
from fetalflex.dicom.write import write_boxes, write_segmentation
from fetalflex.errors import QuarantineError, Reason
from fetalflex.masks.annotations import read_annotations, referenced_instances
from fetalflex.params import Deidentify
from tests.fetalflex.dicom.samples import KEY, head_mask, write_image

DEFAULT = Deidentify()


def cleaned(path: Path, options: Deidentify = DEFAULT, **values: Any) -> tuple[Dataset, Changes]:
    """Return one image after cleaning, written and read again."""
    write_image(path, 4, **values)
    data = dcmread(path)
    changes = clean_header(data, options, "made", KEY, ["Head VP"])
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return dcmread(stream), changes


def test_identifiers_go_and_geometry_stays(tmp_path: Path) -> None:
    planted = {"PatientName": "Jones^Ann", "InstitutionName": "St Mary", "PatientBirthDate": "19870203",
               "StudyDate": "20240105", "PatientComments": "phone 555 0199", "StationName": "ROOM3",
               "DeviceSerialNumber": "SN4711", "OperatorsName": "Smith^Bob"}  # fmt: skip
    data, changes = cleaned(
        tmp_path / "a.dcm", extra=planted, spacing_mm=(0.2, 0.3), region=(30, 20, 150, 110), age_weeks=21.0,
        study_description="Fetal BRAIN Jones", series_description="head vp of Jones", manufacturer="Philips Medical",
        model="EPIQ 7G of room 3",
    )  # fmt: skip
    text = str(data)
    assert not any(value in text for value in planted.values())
    assert "Jones" not in text
    assert data.PatientName == ""
    assert data.StudyDescription == "fetal brain"
    assert data.SeriesDescription == "Head VP"
    assert (data.Manufacturer, data.ManufacturerModelName) == ("Philips", "EPIQ 7G")
    assert data.DeviceSerialNumber == keyed_hash(KEY, "device", "SN4711", length=16)
    region = data.SequenceOfUltrasoundRegions[0]
    assert (region.RegionLocationMaxX1, region.PhysicalDeltaX) == (149, pytest.approx(0.03))
    assert data.AcquisitionContextSequence[0].NumericValue == 21
    assert changes.counts["SequenceOfUltrasoundRegions/PhysicalDeltaX", "kept"] == 1
    assert changes.counts["InstitutionName", "removed"] == 1
    assert changes.counts["PatientName", "emptied"] == 1
    assert not any(value in str(changes.rows()) for value in planted.values())


def test_pseudonyms_and_uids_agree_with_those_of_ingest(tmp_path: Path) -> None:
    original = write_image(tmp_path / "b.dcm", 4)
    data, _ = cleaned(tmp_path / "a.dcm")
    assert data.PatientID == patient_pseudonym(original, "made", KEY)
    assert data.SOPInstanceUID == keyed_uid(KEY, original.SOPInstanceUID) == data.file_meta.MediaStorageSOPInstanceUID
    other = dcmread(tmp_path / "b.dcm")
    clean_header(other, Deidentify(), "made", PseudonymKey(b"another secret of tests", "tests"))
    assert other.SOPInstanceUID != data.SOPInstanceUID
    assert other.PatientID != data.PatientID


def test_it_says_how_it_was_done(tmp_path: Path) -> None:
    data, _ = cleaned(tmp_path / "a.dcm")
    state_pixels_cleaned(data)
    codes = [(c.CodeValue, c.CodingSchemeDesignator) for c in data.DeidentificationMethodCodeSequence]
    assert codes == [(c, "DCM") for c in ("113100", "113104", "113105", "113107", "113109", "113101")]
    assert (data.PatientIdentityRemoved, data.BurnedInAnnotation) == ("YES", "NO")
    assert data.LongitudinalTemporalInformationModified == "MODIFIED"
    assert data.file_meta.ImplementationVersionName == "FETALFLEX"
    plain, _ = cleaned(tmp_path / "b.dcm", Deidentify(dates="remove", descriptors="remove", device="remove"))
    assert [c.CodeValue for c in plain.DeidentificationMethodCodeSequence] == ["113100", "113104"]
    assert plain.LongitudinalTemporalInformationModified == "REMOVED"
    assert "StudyDescription" not in plain
    assert plain.StudyDate == ""


def test_private_unknown_and_misrepresented_attributes_go(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", 4)
    data = dcmread(tmp_path / "a.dcm")
    block = data.private_block(0x0029, "JONES CREATOR", create=True)
    block.add_new(1, "UN", b"Jones")
    nested = Dataset()
    nested.private_block(0x0031, "JONES CREATOR", create=True).add_new(1, "LO", "Jones")
    nested.PhysicalDeltaX = 0.1
    data.SequenceOfUltrasoundRegions = Sequence([nested])
    data.add_new(0x00189FFF, "LO", "Jones")
    data.add_new(0x60000010, "US", 3)
    data.add_new(0x60003000, "OB", b"Jones\0")
    data.add_new(0x00281050, "LO", "Jones")  # Window Center as text
    data.add_new(0x0018602C, "FD", [0.1, 0.2])  # two values where one may stand
    data.ImageType = ["ORIGINAL", "PRIMARY", "JONES"]
    data.HeartRate = "5550199123456"
    data.TransducerType = "JONES"
    data.preamble = b"Jones" + b"\0" * 123
    data.file_meta.SourceApplicationEntityTitle = "JONES"
    clean_header(data, Deidentify(), "made", KEY)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    assert b"jones" not in stream.getvalue().lower()
    assert b"5550199" not in stream.getvalue()
    assert list(data.ImageType) == ["ORIGINAL", "PRIMARY", ""]
    assert data.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0.1
    assert all(name not in data for name in ("TransducerType", "HeartRate", "WindowCenter", "PhysicalDeltaX"))


def test_segmentation_and_boxes_still_say_the_same_of_the_renamed_image(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", 4, patient_name="Jones^Ann")
    write_segmentation(tmp_path / "a.seg", image, {"head": head_mask()}, "s")
    write_boxes(tmp_path / "a.sr", image, {"csp": [(40.0, 30.0, 60.0, 50.0)]}, "s")
    uid = keyed_uid(KEY, image.SOPInstanceUID)
    for name in ("a.seg", "a.sr"):
        before = read_annotations(tmp_path / name, image.SOPInstanceUID)
        data = dcmread(tmp_path / name)
        clean_header(data, Deidentify(), "made", KEY)
        data.save_as(tmp_path / name, enforce_file_format=True)
        assert referenced_instances(read_header(tmp_path / name)) == (uid,)
        after = read_annotations(tmp_path / name, uid)
        assert [(a.structure, a.box) for a in after.known] == [(a.structure, a.box) for a in before.known] != []
        assert after.unknown == 0
        assert data.PatientID == patient_pseudonym(image, "made", KEY)
        assert b"Jones" not in (tmp_path / name).read_bytes()


def test_dates_of_a_patient_move_together(tmp_path: Path) -> None:
    dates = {"StudyDate": "20240105", "ContentDate": "20240107", "AcquisitionDateTime": "20240106101112.5+0100"}
    data, _ = cleaned(tmp_path / "a.dcm", extra=dates)
    assert int(data.ContentDate[-2:]) - int(data.StudyDate[-2:]) in (2, -29, -28, -27, -26)
    assert data.AcquisitionDateTime[8:] == "101112.5"
    assert data.StudyDate < "20240105"


def test_hostile_nesting_is_a_named_reason(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", 4)
    data = dcmread(tmp_path / "a.dcm")
    inner = Dataset()
    for _ in range(20):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([inner])
        inner = outer
    data.ReferencedSeriesSequence = Sequence([inner])
    with pytest.raises(QuarantineError) as caught:
        clean_header(data, Deidentify(), "made", KEY)
    assert caught.value.reason is Reason.NESTED_TOO_DEEP
