"""An embedded center: simulated patients written as the DICOM files that a hospital would send.

Names, numbers, dates and institutions are invented, and planted in headers and pixels on purpose: the ingest has to
find and drop them. Nothing here is, or is derived from, a person.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fetalflex.dicom.write import UltrasoundImage, derive_uid, write_segmentation, write_ultrasound
from fetalflex.params import Phantom
from fetalflex.phantom.acoustics import Picture, image_scene
from fetalflex.phantom.devices import Device, device
from fetalflex.phantom.scene import MAX_WEEKS, MIN_WEEKS, make_scene
from fetalflex.rng import generator

Pixels = npt.NDArray[np.uint8]

# The devices' own words for a plane, in the series description: `planes:` of a center's profile maps them back.
PLANE_WORDS: dict[str, dict[str, str]] = {
    "curved-a": {"Head VP": "transventricular", "Abdo AC": "abdomen", "Heart 4CH": "four-chamber", "FL long": "femur"},
    "curved-b": {
        "Cerebro TV": "transventricular",
        "Perim abd": "abdomen",
        "Corazon 4C": "four-chamber",
        "Diafisis": "femur",
    },
}
_STUDY_WORDS = {"curved-a": "OB 2nd/3rd trim", "curved-b": "Ecografia fetal"}
_ANNOTATED = 0.7  # share of the images with expert masks; the others are work for the segmenters
_AGE_STATED = 0.85  # share of the patients whose gestational age the device states
_SURNAMES = ("Haugland", "Brattvoll", "Lindeskov", "Queiroz", "Figueira", "Okonjo", "Tamimi", "Varga", "Sorrento",
             "Pilar", "Estevao", "Moreau", "Kettunen", "Nakashiro", "Dellacorte", "Ibarrola")  # fmt: skip
_GIVEN = ("Ingrid", "Solveig", "Marta", "Beatriz", "Amina", "Yara", "Clara", "Noor", "Helena", "Livia", "Tuva", "Rosa")


@dataclass(frozen=True)
class Progress:
    """How many of the center's images are written."""

    done: int
    total: int


@dataclass(frozen=True)
class Patient:
    """An invented patient: identifiers, gestational age and the planes that were imaged."""

    number: int
    name: str
    record: str
    birth_date: str
    study_date: str
    study_time: str
    accession: str
    weeks: float
    states_age: bool
    planes: tuple[str, ...]


def write_center(folder: Path, spec: Phantom, center: str) -> Iterator[Progress]:
    """Write a center's DICOM files into `folder`, yielding after each image (and its SEG, where it has one).

    One folder per patient, two to four planes each, one study, one series per plane. Equal (spec, center) give equal
    bytes; more patients leave the former ones unchanged. Raises: ParameterError for an unknown device.
    """
    scanner = device(spec.device)
    patients = [make_patient(spec, center, number) for number in range(1, spec.patients + 1)]
    total = sum(len(p.planes) for p in patients)
    done = 0
    for patient in patients:
        for number, plane in enumerate(patient.planes, 1):
            _write_image(folder / f"PAT{patient.number:04d}", spec, center, scanner, patient, (number, plane))
            done += 1
            yield Progress(done, total)


def make_patient(spec: Phantom, center: str, number: int) -> Patient:
    """Return patient `number` of a center; it depends on nothing but (seed, center, number)."""
    rng = generator(spec.seed, "phantom", center, "patient", number)
    study = date(2023, 1, 9) + timedelta(days=int(rng.integers(0, 700)))
    born = study - timedelta(days=int(rng.integers(19 * 365, 43 * 365)))
    planes = tuple(PLANE_WORDS[spec.device].values())
    chosen = rng.choice(len(planes), int(rng.integers(2, 5)), replace=False)
    return Patient(
        number=number,
        name=f"{rng.choice(_SURNAMES)}^{rng.choice(_GIVEN)}",
        record=f"{''.join(part[0] for part in center.split('-') if part).upper()}{rng.integers(10**6, 10**7)}",
        birth_date=f"{born:%Y%m%d}",
        study_date=f"{study:%Y%m%d}",
        study_time=f"{rng.integers(8, 17):02d}{rng.integers(0, 60):02d}{rng.integers(0, 60):02d}",
        accession=f"A{rng.integers(10**7, 10**8)}",
        weeks=round(float(rng.uniform(MIN_WEEKS, MAX_WEEKS)) * 7) / 7,  # dated in days
        states_age=bool(rng.random() < _AGE_STATED),
        planes=tuple(planes[i] for i in sorted(chosen)),
    )


def _write_image(
    folder: Path, spec: Phantom, center: str, scanner: Device, patient: Patient, numbered: tuple[int, str]
) -> None:
    number, plane = numbered
    names = ("phantom", center, spec.seed, patient.number)
    rng = generator(spec.seed, *names[:2], "image", patient.number, plane)
    picture = image_scene(make_scene(plane, patient.weeks, rng), scanner, rng)
    words = next(w for w, p in PLANE_WORDS[scanner.name].items() if p == plane)
    image = UltrasoundImage(
        pixels=burn_header(picture, scanner, patient),
        sop_uid=derive_uid(*names, "image", number),
        study_uid=derive_uid(*names, "study"),
        series_uid=derive_uid(*names, "series", number),
        patient_id=patient.record,
        patient_name=patient.name,
        manufacturer=scanner.manufacturer,
        model=scanner.model,
        study_description=_STUDY_WORDS[scanner.name],
        series_description=f"{_STUDY_WORDS[scanner.name]} - {words}",
        age_weeks=patient.weeks if patient.states_age else None,
        spacing_mm=(picture.spacing_mm, picture.spacing_mm),
        region=picture.region,
        burned_in=True,
        number=number,
        syntax=scanner.syntax,
        extra=_identifiers(patient, scanner),
    )
    data = write_ultrasound(folder / f"IM{number:04d}.dcm", image)
    masks = {name: mask for name, mask in picture.masks.items() if mask.any()}
    if masks and rng.random() < _ANNOTATED:
        write_segmentation(folder / f"SEG{number:04d}.dcm", data, masks, image.sop_uid)


def _identifiers(patient: Patient, scanner: Device) -> dict[str, str]:
    """Return what a device writes about people and places: all of it has to be gone after the ingest."""
    surname = patient.name.split("^")[0]
    return {
        "PatientBirthDate": patient.birth_date,
        "PatientSex": "F",
        "StudyDate": patient.study_date,
        "ContentDate": patient.study_date,
        "StudyTime": patient.study_time,
        "ContentTime": patient.study_time,
        "StudyID": patient.accession[1:5],
        "AccessionNumber": patient.accession,
        "InstitutionName": scanner.institution,
        "StationName": f"US-{scanner.name[-1].upper()}-3",
        "DeviceSerialNumber": f"SN{sum(map(ord, scanner.model)) * 7919}",
        "ReferringPhysicianName": "Almskog^Per^^Dr",
        "OperatorsName": "Vestergaard^Nina",
        "PatientComments": f"Ms {surname}, 2nd pregnancy, phone 555-01{patient.number % 100:02d}",
    }


def burn_header(picture: Picture, scanner: Device, patient: Patient) -> Pixels:
    """Return the pixels with the device's text in the rows above the sector: name, record, date, clinic, settings."""
    canvas = Image.fromarray(picture.pixels)
    draw = ImageDraw.Draw(canvas)
    family, given = patient.name.split("^")
    day = f"{patient.study_date[6:]}.{patient.study_date[4:6]}.{patient.study_date[:4]}"
    age = f"GA {int(patient.weeks)}w{round(patient.weeks % 1 * 7)}d" if patient.states_age else "GA --"
    settings = f"{scanner.frequency_mhz:g} MHz  DR {scanner.dynamic_range_db:g}  Gn {scanner.gain_db:g}"
    left = (f"{family}, {given}", f"ID {patient.record}   {age}")
    right = (scanner.institution, f"{day} {patient.study_time[:2]}:{patient.study_time[2:4]}   {settings}")
    if scanner.name == "curved-b":  # this maker puts the clinic first, and everything in capitals
        left, right = (scanner.institution.upper(), day), (f"{family} {given}".upper(), f"{patient.record}  {settings}")
    size = scanner.header // 2 - 5
    font = ImageFont.load_default(size)
    for line, (begin, end) in enumerate(zip(left, right, strict=True)):
        height = 2 + line * (size + 3)
        draw.text((6, height), begin, fill=200, font=font)
        draw.text((canvas.width - 6, height), end, fill=170, font=font, anchor="ra")
    return np.asarray(canvas, dtype=np.uint8)
