"""Cleaned values: keyed UIDs, shifted dates, vocabulary words, dummies."""

import re
from collections.abc import Sequence
from datetime import date, timedelta

from pydicom.uid import UID_dictionary

from fetalflex.anatomy.ontology import PLANES
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.deid.safe import names

LONGEST_SHIFT_DAYS = 3650
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?(\.\d{1,6})?")
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_DATETIME = re.compile(r"(\d{8})(\d{0,6})(\.\d{1,6})?([+-]\d{4})?")
_VERSION = re.compile(r"(?<![\w.])[vV]?(\d{1,2}\.\d{1,2})(?![\d])")
# Anatomy, view and method, in the languages of the centers so far: what a descriptor may keep.
VOCABULARY = names(
    """
fetal fetus foetal foetus obstetric obstetrical obstetrics ob gyn pregnancy ultrasound us sonography echo brain head
skull cavum csp ventricle ventricles ventricular transventricular transthalamic transcerebellar thalamus thalami
cerebellum posterior fossa abdomen abdominal stomach umbilical cord vein kidney kidneys bladder spine thorax chest
lung lungs heart cardiac four chamber 4ch view lvot rvot three vessel femur humerus face profile lips nose cervix
placenta amniotic fluid biometry growth anatomy survey trimester first second third axial sagittal coronal transverse
longitudinal plane bpd hc ac fl ofd nt screening scan image doppler
"""
) | frozenset(word for p in PLANES for word in p.name.split("-"))


def keyed_uid(key: PseudonymKey, uid: str) -> str:
    """Return the UID `2.25.<integer>` that stands for an instance UID everywhere: same key, same UID.

    The integer is a UUID of version 8 (own bits) over HMAC-SHA-256. Source: DICOM PS3.5 B.2, RFC 9562 section 5.8.
    """
    number = int(keyed_hash(key, "uid", uid.strip(" \0")), 16)
    number = number & ~(0xF << 76) | 8 << 76
    return f"2.25.{number & ~(3 << 62) | 2 << 62}"


def is_standard_uid(uid: str) -> bool:
    """Whether the standard itself defines a UID: of a class, a syntax, a coding scheme, a frame of reference."""
    return uid.strip(" \0") in UID_dictionary


def shift_days(key: PseudonymKey, patient: str) -> int:
    """Return by how many days a patient's dates move into the past: 1 to 3650, secret, always the same."""
    return 1 + int(keyed_hash(key, "dates", patient, length=16), 16) % LONGEST_SHIFT_DAYS


def shift(vr: str, value: str, days: int) -> str | None:
    """Return a date (DA) or date and time (DT) moved back by whole days; None where it is none.

    Times (TM) stay: a shift of whole days keeps them true, and so intervals within and between studies hold to the
    second. The offset from UTC goes. The weekday is not kept.

    >>> shift("DA", "20240101", 1), shift("DT", "20240101101500.5+0100", 366), shift("DA", "no date", 1)
    ('20231231', '20221231101500.5', None)
    """
    value = value.strip(" \0")
    if vr == "TM":
        return value if _TIME.fullmatch(value) else None
    if vr == "DA":
        found = _DATE.fullmatch(value)
        return None if found is None else _moved("".join(found.groups()), days)
    found = _DATETIME.fullmatch(value)
    if found is None or (found[2] and not _TIME.fullmatch(found[2])):
        return None
    day = _moved(found[1], days)
    return None if day is None else day + found[2] + ((found[3] or "") if len(found[2]) == 6 else "")


def _moved(day: str, days: int) -> str | None:
    try:
        moved = date(int(day[:4]), int(day[4:6]), int(day[6:])) - timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


def known_words(text: str, words: Sequence[str] = ()) -> str:
    """Return what of a descriptor is in our vocabulary, or is one of a profile's own words, in the order found.

    Everything else is dropped, whatever it looks like. At most 64 characters.

    >>> known_words("Fetal brain of Mrs Jones, born 1987", ["head vp"]), known_words("JONES Head VP")
    ('fetal brain', 'head')
    """
    spans: list[tuple[int, str]] = []
    folded = text.casefold()
    for phrase in words:
        at = folded.find(phrase.casefold()) if phrase else -1
        if at >= 0:
            spans.append((at, phrase))
            folded = folded[:at] + "\0" * len(phrase) + folded[at + len(phrase) :]
    spans += [(m.start(), m[0]) for m in re.finditer(r"[^\W_]+", folded) if m[0] in VOCABULARY]
    return " ".join(word for _, word in sorted(spans))[:64].strip()


def version(text: str) -> str:
    """Return major and minor number of a software version, or nothing: build numbers name single installations.

    >>> version("v10.2.1865 b77"), version("5551234"), version("10.11.12.13")
    ('10.2', '', '10.11')
    """
    found = _VERSION.search(text)
    return found[1] if found else ""


# A value for what must have one, by value representation.
DUMMIES: dict[str, str | bytes | int | float] = {
    "DA": "19000101", "TM": "000000", "DT": "19000101000000", "CS": "REMOVED", "AS": "000D", "PN": "removed",
    "AE": "REMOVED", "UR": "http://removed.invalid", "DS": "0", "IS": "0", "OB": b"\0\0", "OW": b"\0\0", "UN": b"\0\0",
    "US": 0, "UL": 0, "SS": 0, "SL": 0, "FL": 0.0, "FD": 0.0,
}  # fmt: skip
