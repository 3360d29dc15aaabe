"""DICOM PS3.15 Table E.1-1 and its options: which action an attribute gets.

Base actions come from `dicom-anonymizer` (edition 2026c), option columns from `options_e1_1.csv`, whose head names
its edition. Conflicts (X/Z, X/D, Z/D, X/Z/D) go by what the object's class asks for, see `Profile.action`.
"""

import csv
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as edition
from pydicom.datadict import dictionary_VR, keyword_for_tag

from fetalflex.deid.safe import ANNOTATION_TYPE_1, CODES, EMPTIED, KEPT, REPORT_TYPE_2, TYPE_1, TYPE_2, names
from fetalflex.params import Deidentify

EDITION = "2026c"
OPTIONS_FILE = "options_e1_1.csv"
TABLES = {
    "D": edition.D_TAGS, "Z": edition.Z_TAGS, "X": edition.X_TAGS, "U": edition.U_TAGS, "Z/D": edition.Z_D_TAGS,
    "X/Z": edition.X_Z_TAGS, "X/D": edition.X_D_TAGS, "X/Z/D": edition.X_Z_D_TAGS, "X/Z/U*": edition.X_Z_U_STAR_TAGS,
}  # fmt: skip
DATES = ("DA", "DT", "TM")
# Descriptors of the examination: the only ones whose words are looked up. All others get the base action.
DESCRIPTORS = names(
    """
StudyDescription SeriesDescription ProtocolName RequestedProcedureDescription PerformedProcedureStepDescription
ScheduledProcedureStepDescription AcquisitionProtocolDescription RequestedSeriesDescription ImageComments FrameComments
"""
)
STRUCTURED = frozenset(["ContentSequence", "AcquisitionContextSequence"])
# CID 7050 (De-identification Method), PS3.16: what is written into DeidentificationMethodCodeSequence.
BASIC, PIXELS, CONTENT, WORDS_KEPT, DATES_SHIFTED, DEVICE_KEPT = (
    "113100",
    "113101",
    "113104",
    "113105",
    "113107",
    "113109",
)
METHODS = {
    BASIC: "Basic Application Confidentiality Profile",
    PIXELS: "Clean Pixel Data Option",
    CONTENT: "Clean Structured Content Option",
    WORDS_KEPT: "Clean Descriptors Option",
    DATES_SHIFTED: "Retain Longitudinal Temporal Information Modified Dates Option",
    DEVICE_KEPT: "Retain Device Identity Option",
}


class Action(StrEnum):
    """What happens to an attribute."""

    KEEP = "keep"
    REMOVE = "remove"
    EMPTY = "empty"
    DUMMY = "dummy"
    REMAP = "remap"  # instance UIDs: keyed
    KEYED = "keyed"  # numbers of patients and devices: keyed pseudonyms
    SHIFT = "shift"  # dates: by the patient's secret number of days
    WORDS = "words"  # descriptors: words of our vocabularies only
    CODES = "codes"  # code sequences: codes of published vocabularies only
    CONTENT = "content"  # structured content: cleaned item by item
    RECURSE = "recurse"  # sequences without an own action: item by item
    DEVICE = "device"  # maker, model, software: from vocabularies


class Kind(StrEnum):
    """What an object is: decides which attributes it must have."""

    IMAGE = "image"
    SEGMENTATION = "segmentation"
    REPORT = "report"


@dataclass(frozen=True, eq=False)
class Profile:
    """The actions under chosen options, for objects of one kind."""

    options: Deidentify
    kind: Kind
    _found: dict[tuple[int, bool], Action] = field(default_factory=dict, repr=False)

    def method_codes(self) -> tuple[str, ...]:
        """Return the codes of CID 7050 that are true of every cleaned header; Clean Pixel Data is added by its doer."""
        codes = [BASIC, CONTENT]
        codes += [WORDS_KEPT] if self.options.descriptors == "clean" else []
        codes += [DATES_SHIFTED] if self.options.dates == "shift" else []
        return tuple(codes + ([DEVICE_KEPT] if self.options.device == "keep" else []))

    def action(self, tag: int, *, nested: bool = False) -> Action:
        """Return the action of an attribute that is not private (`tag` as pydicom's integer).

        Table E.1-1 first, then the allow-list of `safe`, else removal. A conflict is solved by the object's class:
        what it must have with a value (Type 1) gets a dummy, what it must have (Type 2) is emptied, else the first
        letter of the conflict holds. Inside sequences, where classes differ most, a dummy is valid wherever a value
        or an empty attribute is, so Z/D is D there. Instance references (X/Z/U*) stay, with new UIDs, in
        annotations, which mean nothing without them; in images they go.
        """
        found = self._found.get((tag, nested))
        if found is None:
            found = self._found[tag, nested] = _action(self, tag, nested)
        return found

    def fallback(self, tag: int, *, nested: bool = False) -> Action:
        """Return the action where an option cannot be carried out on a value: that of the basic profile alone."""
        base, keyword = base_actions().get(tag), keyword_for_tag(tag)
        if base is None:
            return Action.EMPTY if self.kind == Kind.REPORT and keyword in REPORT_TYPE_2 else Action.REMOVE
        return _resolve(base, keyword, self.kind, nested)


@lru_cache(maxsize=64)
def profile_for(options: Deidentify, kind: Kind) -> Profile:
    """Return the one profile of these options and this kind, which remembers what it has looked up."""
    return Profile(options, kind)


def private_or_group(tag: int) -> bool:
    """Whether an attribute goes whatever its name: private, a group length, a command, or an overlay or curve."""
    group, element = tag >> 16, tag & 0xFFFF
    return bool(group & 1) or element == 0 or group < 0x0008 or group >> 8 in (0x50, 0x60)


def _action(profile: Profile, tag: int, nested: bool) -> Action:
    if private_or_group(tag):
        return Action.REMOVE
    keyword = keyword_for_tag(tag)
    base = base_actions().get(tag)
    if base is None:
        return _unlisted(keyword, tag)
    chosen = _option(profile.options, keyword, tag)
    return chosen or _resolve(base, keyword, profile.kind, nested)


def _unlisted(keyword: str, tag: int) -> Action:
    """Attributes that the table does not name: known to be safe, or removed."""
    if keyword in CODES:
        return Action.CODES
    if keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SegmentLabel"):
        return Action.DEVICE
    if keyword not in KEPT:
        return Action.EMPTY if keyword in EMPTIED else Action.REMOVE
    return Action.RECURSE if dictionary_VR(tag) == "SQ" else Action.KEEP


def _option(options: Deidentify, keyword: str, tag: int) -> Action | None:
    """Return the action of an option's column that is chosen and that we carry out, or None."""
    columns = option_columns().get(tag, {})
    if keyword == "PatientID":
        return Action.KEYED
    if keyword in STRUCTURED:
        return Action.CONTENT
    if keyword == "DeviceSerialNumber" and options.device == "keep" and columns.get("device"):
        return Action.KEYED
    if options.dates == "shift" and columns.get("modified_dates") == "C" and keyword:
        return Action.SHIFT if dictionary_VR(tag) in DATES else None
    if options.descriptors == "clean" and keyword in DESCRIPTORS and columns.get("descriptors") == "C":
        return Action.WORDS
    return None


def _resolve(base: str, keyword: str, kind: Kind, nested: bool) -> Action:
    if base == "X/Z/U*":
        return Action.REMOVE if kind == Kind.IMAGE else Action.RECURSE
    plain = {"X": Action.REMOVE, "Z": Action.EMPTY, "D": Action.DUMMY, "U": Action.REMAP}
    if base in plain:
        return plain[base]
    one = keyword in TYPE_1 or (kind != Kind.IMAGE and keyword in ANNOTATION_TYPE_1)
    two = keyword in TYPE_2 or (kind == Kind.REPORT and keyword in REPORT_TYPE_2)
    if "D" in base and (one or (nested and base == "Z/D")):
        return Action.DUMMY
    if "Z" in base and two:
        return Action.EMPTY
    return plain[base.split("/")[0]]


@lru_cache(maxsize=1)
def base_actions() -> dict[int, str]:
    """Return tag -> X, Z, D, U, or a conflict of them, of all attributes that are no repeating group."""
    return {t[0] << 16 | t[1]: letters for letters, tags in TABLES.items() for t in tags if len(t) == 2}


@lru_cache(maxsize=1)
def option_columns() -> dict[int, dict[str, str]]:
    """Return tag -> option -> K or C; `origin` says whether the published table or our rule filled the row."""
    lines = (files("fetalflex.deid") / OPTIONS_FILE).read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {int(r["tag"], 16): r for r in rows if r["tag"] != "private" and "x" not in r["tag"]}
