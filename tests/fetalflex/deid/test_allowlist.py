from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.datadict import DicomDictionary, keyword_for_tag

from fetalflex.deid.allowlist import check_profile, clean_device, find_plane, keep, read_age_weeks
from fetalflex.deid.keys import PseudonymKey
from fetalflex.dicom.read import read_header
from fetalflex.errors import ParameterError
from fetalflex.ingest.bucket import ingest_bucket, scan
from fetalflex.params import Center
from fetalflex.tables import Annotations, Frames, Quarantine, write_shard
from tests.fetalflex.dicom.samples import CENTER, INGEST, KEY, screen, write_center, write_image

PLANT = "ZQXJ"
TEXT_VR = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE", "CS", "AS"}
# What must stay readable for the file to be an image at all.
STRUCTURAL = {"Modality", "PhotometricInterpretation", "SpecificCharacterSet", "ImageType", "LossyImageCompression"}


def plant_everywhere(path: Path) -> int:
    """Write a marked text, another in each, into every text attribute that DICOM knows; return how many."""
    data = pydicom.dcmread(path)
    count = 0
    for tag, (vr, _, _, retired, _) in DicomDictionary.items():
        keyword = keyword_for_tag(tag)
        if vr not in TEXT_VR or retired or not keyword or keyword in STRUCTURAL or tag >> 16 in (0x0000, 0x0002):
            continue
        data.add_new(tag, vr, f"{PLANT}{count}^A" if vr == "PN" else f"{PLANT}{count}")
        count += 1
    private = data.private_block(0x0099, f"{PLANT} CREATOR", create=True)
    private.add_new(1, "LO", f"{PLANT} private")
    nested = Dataset()
    nested.PatientName = f"{PLANT}^Nested"
    data.RequestAttributesSequence = [nested]
    data.StudyDescription = f"{PLANT} trans-ventricular {PLANT}"
    data.StudyDate = "19340506"
    pydicom.dcmwrite(path, data)
    raw = path.read_bytes()
    path.write_bytes(PLANT.encode().ljust(128, b"\0") + raw[128:])
    return count


def strings(value: object) -> list[bytes]:
    """Return all text and bytes of a row, however deep."""
    if isinstance(value, dict):
        return [found for item in value.values() for found in strings(item)]
    return [value if isinstance(value, bytes) else str(value).encode()]


@pytest.mark.filterwarnings("ignore:The value length:UserWarning", "ignore:Invalid value for VR:UserWarning")
def test_nothing_that_is_planted_in_any_text_attribute_comes_out(tmp_path: Path) -> None:
    folder = write_center(tmp_path / PLANT, 2)
    assert sum(plant_everywhere(p) for p in folder.rglob("*.dcm")) > 2500
    (folder / f"{PLANT} report.txt").write_text(f"{PLANT} Doe")
    (folder / f"{PLANT}.seg").write_bytes(next(folder.rglob("*.seg")).read_bytes()[:-3000])
    inventory = scan(folder, KEY)
    results = [ingest_bucket(inventory, n, 2, "made", CENTER, INGEST, KEY) for n in range(2)]
    assert sum(len(r.frames) for r in results) == 2
    assert sum(len(r.quarantine) for r in results) >= 2
    for number, result in enumerate(results):
        for name, schema in (("frames", Frames), ("annotations", Annotations), ("quarantine", Quarantine)):
            path = tmp_path / f"{name}-{number}.parquet"
            write_shard(path, getattr(result, name), schema)
            found = [s for row in pl.read_parquet(path).iter_rows(named=True) for s in strings(row)]
            assert not [s for s in [*found, path.read_bytes()] if PLANT.encode() in s or b"19340506" in s]


def test_burned_in_text_outside_the_region_is_cut_off(tmp_path: Path) -> None:
    pixels = screen()
    canvas = Image.fromarray(pixels)
    ImageDraw.Draw(canvas).text((2, 2), "DOE JANE 1990", fill=255)
    write_image(tmp_path / "c" / "a.dcm", pixels=np.asarray(canvas), region=(30, 20, 150, 110), spacing_mm=(0.2, 0.2))
    write_image(tmp_path / "d" / "a.dcm", pixels=screen(), region=(30, 20, 150, 110), spacing_mm=(0.2, 0.2))
    both = [ingest_bucket(scan(tmp_path / c, KEY), 0, 1, "made", CENTER, INGEST, KEY).frames[0] for c in "cd"]
    assert both[0]["pixels"] == both[1]["pixels"]


def test_the_profile_s_words_name_the_plane_and_the_first_of_them_decides(tmp_path: Path) -> None:
    header = Dataset()
    header.StudyDescription, header.SeriesDescription = "Fetal BRAIN", "Trans-Ventricular"
    assert find_plane(header, CENTER) == "transventricular"
    header.SeriesDescription = "?"
    assert find_plane(header, CENTER) == "brain"
    assert find_plane(Dataset(), CENTER) == "unknown"
    with pytest.raises(ParameterError, match=r"planes\.brain.*'head'"):
        check_profile("made", Center(title="", licence="", planes={"brain": "head"}))


@pytest.mark.parametrize(
    ("maker", "model", "expected"),
    [
        ("GE Healthcare", "Voluson E10", "GE Voluson E10"),
        ("Philips Medical Systems", "EPIQ 7G serial 99812", "Philips EPIQ 7G"),
        ("ALOKA CO., LTD.", "SSD-4000", "Aloka SSD 4000"),
        ("St. Mary, room of Dr. Doe", "Doe^Jane", "unknown"),
        ("Samsung <b>", "JANE", "Samsung"),
    ],
)
def test_keeps_known_devices_only(maker: str, model: str, expected: str) -> None:
    header = Dataset()
    header.Manufacturer, header.ManufacturerModelName = maker, model
    assert clean_device(header) == expected


def test_a_simulated_device_keeps_its_name() -> None:
    header = Dataset()
    header.Manufacturer, header.ManufacturerModelName = "FetalFlex/Phantom", "curved-a\n"
    assert clean_device(header, simulated=True) == "FetalFlex Phantom curved-a"


@pytest.mark.parametrize("weeks", [None, 4.0, 21.5, 44.9])
def test_reads_the_gestational_age_that_the_writer_states(tmp_path: Path, weeks: float | None) -> None:
    write_image(tmp_path / "a.dcm", age_weeks=weeks)
    assert read_age_weeks(read_header(tmp_path / "a.dcm")) == weeks


def test_an_impossible_age_is_none(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", age_weeks=99.0)
    assert read_age_weeks(read_header(tmp_path / "a.dcm")) is None


def test_pseudonyms_tie_a_patient_s_images_within_one_center_and_one_key(tmp_path: Path) -> None:
    headers = []
    for seed in range(3):
        write_image(tmp_path / f"{seed}.dcm", seed)
        headers.append(read_header(tmp_path / f"{seed}.dcm"))
    one, two, other = (keep(h, "made", CENTER, KEY).patient for h in headers)
    assert one == two != other
    assert keep(headers[0], "elsewhere", CENTER, KEY).patient != one
    assert keep(headers[0], "made", CENTER, PseudonymKey(b"another secret key", "")).patient != one
    headers[0].PatientID = headers[2].PatientID = " "
    assert keep(headers[0], "made", CENTER, KEY).patient != keep(headers[2], "made", CENTER, KEY).patient
