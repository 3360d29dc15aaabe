from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from fetalflex.anatomy.ontology import plane as ontology_plane
from fetalflex.artifacts import tree_sha256
from fetalflex.params import Phantom, read_center
from fetalflex.phantom.center import PLANE_WORDS, make_patient, write_center
from fetalflex.phantom.devices import DEVICES

CENTERS = sorted((Path(__file__).parents[3] / "centers").glob("phantom-*.yaml"))
SPEC = {"curved-a": Phantom(device="curved-a", patients=3, seed=1), "curved-b": Phantom(device="curved-b", patients=3)}


@pytest.fixture(scope="module", params=["curved-a", "curved-b"])
def center(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Phantom, list]:
    folder = tmp_path_factory.mktemp("incoming") / "north"
    return folder, SPEC[request.param], list(write_center(folder, SPEC[request.param], "north"))


def images(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(p) for p in sorted(folder.rglob("IM*.dcm"))]


def test_writes_the_same_bytes_again(center: tuple[Path, Phantom, list], tmp_path: Path) -> None:
    folder, spec, _ = center
    list(write_center(tmp_path / "north", spec, "north"))
    assert tree_sha256([tmp_path / "north"]) == tree_sha256([folder])


def test_more_patients_leave_the_former_ones_unchanged(center: tuple[Path, Phantom, list]) -> None:
    _, spec, _ = center
    more = spec.model_copy(update={"patients": 99})
    assert [make_patient(more, "north", n) for n in (1, 2)] == [make_patient(spec, "north", n) for n in (1, 2)]
    assert make_patient(spec, "north", 1) != make_patient(spec, "south", 1)


def test_reports_its_progress_to_the_end(center: tuple[Path, Phantom, list]) -> None:
    folder, _, steps = center
    assert [s.done for s in steps] == list(range(1, steps[0].total + 1))
    assert len(images(folder)) == steps[-1].total


def test_writes_calibrated_ultrasound_in_the_devices_syntax(center: tuple[Path, Phantom, list]) -> None:
    folder, spec, _ = center
    scanner = DEVICES[spec.device]
    for data in images(folder):
        assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1"
        assert data.file_meta.TransferSyntaxUID == {"explicit": "1.2.840.10008.1.2.1", "rle": "1.2.840.10008.1.2.5"}[
            scanner.syntax
        ]  # fmt: skip
        (region,) = data.SequenceOfUltrasoundRegions
        assert (region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection) == (3, 3)
        assert 0.015 < region.PhysicalDeltaX == region.PhysicalDeltaY < 0.06
        assert data.Manufacturer == scanner.manufacturer
        assert data.pixel_array.shape == scanner.frame


def test_plants_identifiers_in_headers_and_pixels(center: tuple[Path, Phantom, list]) -> None:
    folder, _, _ = center
    for data in images(folder):
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "InstitutionName",
            "OperatorsName",
            "AccessionNumber",
        ):
            assert str(data[keyword].value)
        assert data.BurnedInAnnotation == "YES"
        top = data.SequenceOfUltrasoundRegions[0].RegionLocationMinY0
        assert (data.pixel_array[:top] > 100).sum() > 200


def test_segmentations_refer_to_their_image_and_hold_its_planes_structures(center: tuple[Path, Phantom, list]) -> None:
    folder, spec, _ = center
    found = sorted(folder.rglob("SEG*.dcm"))
    assert 0 < len(found) < len(images(folder))
    for path in found:
        image = pydicom.dcmread(path.with_name(path.name.replace("SEG", "IM")))
        read = hd.seg.segread(path)
        labels = [read.get_segment_description(i).segment_label for i in read.segment_numbers]
        words = next(w for w in PLANE_WORDS[spec.device] if w in image.SeriesDescription)
        assert set(labels) <= set(ontology_plane(PLANE_WORDS[spec.device][words]).structures)
        masks = read.get_pixels_by_source_instance([image.SOPInstanceUID])[0]
        region = image.SequenceOfUltrasoundRegions[0]
        assert not np.asarray(masks)[: region.RegionLocationMinY0].any()
        assert (read.StudyInstanceUID, read.PatientID) == (image.StudyInstanceUID, image.PatientID)


@pytest.mark.parametrize("path", CENTERS, ids=lambda p: p.stem)
def test_profiles_name_their_devices_words(path: Path) -> None:
    profile = read_center(path)
    assert profile.phantom is not None
    assert profile.role == "normal"
    assert profile.planes == PLANE_WORDS[profile.phantom.device]
    for text in profile.planes:  # no word occurs in another's description
        assert sum(other.lower() in f"x - {text}".lower() for other in profile.planes) == 1


def test_there_are_two_embedded_centers_of_two_devices() -> None:
    assert {read_center(p).phantom.device for p in CENTERS} == set(DEVICES)
