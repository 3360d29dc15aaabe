"""What may leave a header: a plane, a gestational age, a device of a known maker, and a pseudonym. Nothing else.

An allow-list of *values*, not of attributes: whatever somebody typed into a field, only words of our own
vocabularies come out. Burned-in text goes with the surroundings of the ultrasound region, which are cut off.
Source: DICOM PS3.15 Annex E (Basic Application Level Confidentiality Profile), stricter: all text is dropped.
"""

import re
from dataclasses import dataclass

from pydicom import Dataset

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.errors import ParameterError
from fetalflex.params import Center

UNKNOWN = "unknown"
LONGEST = 40
GESTATIONAL_AGE = ("18185-9", "LN")
WEEKS = {"wk": 1.0, "d": 1.0 / 7.0}
AGE_WEEKS = (4.0, 45.0)
# Word in Manufacturer -> the maker's name. The first that occurs decides.
MAKERS = {
    "philips": "Philips", "samsung": "Samsung", "medison": "Samsung", "siemens": "Siemens", "acuson": "Siemens",
    "canon": "Canon", "toshiba": "Canon", "hitachi": "Hitachi", "aloka": "Aloka", "fujifilm": "Fujifilm",
    "sonosite": "SonoSite", "mindray": "Mindray", "esaote": "Esaote", "agilent": "Agilent", "medistim": "Medistim",
    "kretz": "GE", "general electric": "GE", "ge healthcare": "GE", "ge medical": "GE", "g.e. medical": "GE",
    "ge vingmed": "GE", "sonoscape": "SonoScape", "butterfly": "Butterfly", "clarius": "Clarius",
    "supersonic": "SuperSonic", "alpinion": "Alpinion", "konica": "Konica Minolta",
}  # fmt: skip
# Product series and at most one short mark of the model: "Voluson E10", "EPIQ 7G", "SSD-4000".
MODEL = re.compile(
    r"\b(Voluson|LOGIQ|Vivid|Venue|Versana|EPIQ|Affiniti|ClearVue|CX|iU|HD|HERA|WS|UGEO|Accuvix|Sequoia|Antares|Aspen"
    r"|Juniper|Redwood|Aplio|Xario|Nemio|Arietta|Ascendus|Preirus|ProSound|SSD|Aloka|Resona|Nuewa|DC|MyLab|Turbo"
    r"|M-Turbo|Edge|VeriQ|iQ)[ -]?([A-Z]{0,2}\d{1,4}[A-Z]?)?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Kept:
    """All that an ingested frame knows of its header.

    `patient` is a keyed hash; `age_weeks` None where not stated; `finding` None but in centers for testing.
    """

    patient: str
    plane: str
    age_weeks: float | None
    device: str
    finding: str | None = None


def keep(header: Dataset, name: str, center: Center, key: PseudonymKey) -> Kept:
    """Return what may be kept of a header. `name` and `center`: the center's name and profile."""
    return Kept(
        patient_pseudonym(header, name, key), find_plane(header, center), read_age_weeks(header),
        clean_device(header, simulated=center.phantom is not None), find_finding(header, center),
    )  # fmt: skip


def patient_pseudonym(header: Dataset, center: str, key: PseudonymKey) -> str:
    """Return the keyed hash of (center, issuer, patient number).

    Without a patient number each study is a patient of its own: to tie strangers would be as wrong as to part
    one person's images, but the identical-image search of the splits still finds the latter.
    """
    number = str(header.get("PatientID", "") or "").strip()
    if number:
        return keyed_hash(key, "patient", center, str(header.get("IssuerOfPatientID", "") or "").strip(), number)
    study = str(header.get("StudyInstanceUID", "") or header.get("SOPInstanceUID", ""))
    return keyed_hash(key, "study", center, study)


def find_plane(header: Dataset, center: Center) -> str:
    """Return the plane whose word, in the profile's order, first occurs in study or series description."""
    text = f"{header.get('StudyDescription', '')} {header.get('SeriesDescription', '')}".casefold()
    return next((plane for word, plane in center.planes.items() if word.casefold() in text), UNKNOWN)


def find_finding(header: Dataset, center: Center) -> str | None:
    """Return the finding whose word, in the profile's order, first occurs in the series description, or None."""
    text = str(header.get("SeriesDescription", "")).casefold()
    return next((finding for word, finding in center.findings.items() if word.casefold() in text), None)


def check_profile(name: str, center: Center) -> None:
    """Raises: ParameterError where a profile's words lead to a plane that the ontology does not have."""
    for word, plane in center.planes.items():
        if plane not in PLANE_NAMES:
            raise ParameterError(
                f"centers/{name}.yaml: planes.{word}: {plane!r} is no plane; expected one of {', '.join(PLANE_NAMES)}"
            )


def read_age_weeks(header: Dataset) -> float | None:
    """Return the gestational age of the acquisition context in weeks, or None where there is none or it cannot be.

    Source: DICOM PS3.3 C.7.6.14 (Acquisition Context), LOINC 18185-9, UCUM wk or d.
    """
    for item in header.get("AcquisitionContextSequence") or []:
        concept, unit = (_code(item, name) for name in ("ConceptNameCodeSequence", "MeasurementUnitsCodeSequence"))
        if concept != GESTATIONAL_AGE or unit[0] not in WEEKS:
            continue
        value = item.get("NumericValue")
        if value in (None, ""):
            continue
        weeks = float(value if isinstance(value, int | float | str) else value[0]) * WEEKS[unit[0]]
        if AGE_WEEKS[0] <= weeks <= AGE_WEEKS[1]:
            return round(weeks, 2)
    return None


def clean_device(header: Dataset, *, simulated: bool = False) -> str:
    """Return maker and product series, both from our vocabularies; `unknown` where neither is in them.

    `simulated`: the center is a phantom, which has makers of its own and nobody to protect: cleaned text is kept.
    """
    maker, model = (str(header.get(name, "") or "") for name in ("Manufacturer", "ManufacturerModelName"))
    if simulated:
        return " ".join(re.sub(r"[^A-Za-z0-9 .-]", " ", f"{maker} {model}").split())[:LONGEST] or UNKNOWN
    return f"{known_maker(maker)} {known_model(model)}".strip()[:LONGEST] or UNKNOWN


def known_maker(text: str) -> str:
    """Return the maker's name that a text speaks of, or nothing."""
    return next((value for word, value in MAKERS.items() if word in text.casefold()), "")


def known_model(text: str) -> str:
    """Return product series and model mark that a text speaks of, or nothing."""
    series = MODEL.search(text)
    return "" if series is None else " ".join(part for part in series.groups() if part)


def _code(item: Dataset, sequence: str) -> tuple[str, str]:
    codes = item.get(sequence) or []
    return (str(codes[0].get("CodeValue", "")), str(codes[0].get("CodingSchemeDesignator", ""))) if codes else ("", "")
