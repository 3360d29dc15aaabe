"""Cleaning a header in place: every attribute at every depth gets the action of the profile, and is counted.

What is kept is kept because its attribute, its value representation, its number of values and, where it is text,
each of its values are known. Source: DICOM PS3.15 Annex E, Table E.1-1; PS3.5 6.2 (value representations).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydicom import DataElement, Dataset
from pydicom import Sequence as Items
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset

from fetalflex.anatomy.ontology import structure_by_code
from fetalflex.deid.allowlist import known_maker, known_model, patient_pseudonym
from fetalflex.deid.codes import clean_codes, code_item, code_of
from fetalflex.deid.content import DEEPEST, NUMBER, clean_acquisition_context, clean_content
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.deid.profile import EDITION, METHODS, PIXELS, Action, Kind, Profile, private_or_group, profile_for
from fetalflex.deid.safe import WORDS
from fetalflex.deid.values import DUMMIES, is_standard_uid, keyed_uid, known_words, shift, shift_days, version
from fetalflex.dicom.read import LABELMAP, REPORTS, SEGMENTATION, guarded
from fetalflex.dicom.uids import derive_uid
from fetalflex.errors import QuarantineError, Reason
from fetalflex.params import Deidentify

IMPLEMENTATION_UID = derive_uid("FetalFlex", "implementation")
IMPLEMENTATION = "FETALFLEX"
SOFTWARE = "FetalFlex"
METHOD_CODES = 0x00120064  # De-identification Method Code Sequence
BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4}
# The dictionary leaves it to the pixels which of two it is.
EITHER = {"US or SS": ("US", "SS"), "OB or OW": ("OB", "OW")}
_WHOLE = re.compile(r"[+-]?\d{1,12}")


@dataclass
class Changes:
    """What was done, counted by attribute path (names only, never a value) and outcome.

    Outcomes: kept, removed, emptied, replaced. A private attribute or one that no dictionary knows is named by its tag.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, path: str, outcome: str) -> None:
        """Count one attribute."""
        self.counts[path, outcome] += 1

    def rows(self) -> list[dict[str, str | int]]:
        """Return one row per path and outcome, sorted."""
        return [{"attribute": path, "outcome": what, "count": n} for (path, what), n in sorted(self.counts.items())]


@dataclass(frozen=True)
class _Job:
    """What is the same for all attributes of a file."""

    profile: Profile
    key: PseudonymKey
    patient: str
    days: int
    words: Sequence[str]
    changes: Changes

    def remap(self, uid: str) -> str:
        return keyed_uid(self.key, uid)


def clean_header(
    data: Dataset, options: Deidentify, center: str, key: PseudonymKey, words: Sequence[str] = ()
) -> Changes:
    """Clean a dataset with its file meta in place and return what was done. Pixel data is left as it is.

    The profile's action decides (`Profile.action`), and:
    - UIDs of instances become keyed `2.25.` UIDs, equal in all files under one key; those of the standard stay.
    - The patient's number becomes the keyed pseudonym of (center, issuer, number), which ingest uses too.
    - Dates move back by the patient's own 1 to 3650 days; times stay; a date that is none gets the basic action.
    - Birth date, sex, age, weight and the like go: no option keeps them. The gestational age stays.
    - Maker, model and software come from vocabularies; a serial number becomes a keyed pseudonym, so that devices can
      be told apart and not named. Station names, AE titles and places go: stricter than Retain Device Identity asks.
    - Descriptors keep words of our vocabulary and `words` (the center's own words for planes), nothing else.
    - All private attributes, overlays, curves, icons, group lengths and unknown attributes go.
    - The file meta is written anew, the preamble is zero.
    Raises: QuarantineError decode_failed where it cannot be read, nested_too_deep beyond 16 levels.
    """
    changes = Changes()
    with guarded(Reason.DECODE_FAILED, "header cannot be read"):
        patient = patient_pseudonym(data, center, key)
        profile = profile_for(options, object_kind(data))
        job = _Job(profile, key, patient, shift_days(key, patient), words, changes)
        _clean(data, job, "", 0)
        _clean_file_meta(data, changes)
        _state(data, profile)
    return changes


def object_kind(data: Dataset) -> Kind:
    """Return what an object is, by its storage class."""
    uid = str(data.get("SOPClassUID", ""))
    if uid in (SEGMENTATION, LABELMAP):
        return Kind.SEGMENTATION
    return Kind.REPORT if uid in REPORTS else Kind.IMAGE


def state_pixels_cleaned(data: Dataset) -> None:
    """Write that the pixels were cleaned: Clean Pixel Data, no burned-in annotation. Source: PS3.15 E.3.1."""
    data.BurnedInAnnotation = "NO"
    data.DeidentificationMethodCodeSequence.append(code_item(PIXELS, "DCM", METHODS[PIXELS][:64]))


def _state(data: Dataset, profile: Profile) -> None:
    """Write how it was de-identified. Source: DICOM PS3.3 C.12.1.1.1, PS3.15 E.1.1 and PS3.16 CID 7050."""
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = [f"DICOM PS3.15 Annex E, {EDITION}", SOFTWARE]
    methods = Items(_method_items(profile.method_codes()))
    data[METHOD_CODES] = DataElement(METHOD_CODES, "SQ", methods, already_converted=True)
    data.LongitudinalTemporalInformationModified = "MODIFIED" if profile.options.dates == "shift" else "REMOVED"


@lru_cache(maxsize=64)
def _method_items(codes: tuple[str, ...]) -> tuple[Dataset, ...]:
    return tuple(code_item(code, "DCM", METHODS[code][:64]) for code in codes)


def _clean_file_meta(data: Dataset, changes: Changes) -> None:
    old = getattr(data, "file_meta", None) or FileMetaDataset()
    fresh = FileMetaDataset()
    fresh.FileMetaInformationVersion = b"\0\1"
    fresh.MediaStorageSOPClassUID = data.get("SOPClassUID", "")
    fresh.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "")
    if "TransferSyntaxUID" in old:
        fresh.TransferSyntaxUID = old.TransferSyntaxUID
    fresh.ImplementationClassUID, fresh.ImplementationVersionName = IMPLEMENTATION_UID, IMPLEMENTATION
    for tag in old.keys():  # noqa: SIM118 - a dataset iterates over elements
        name = _name(int(tag))
        changes.add(name, "kept" if name == "TransferSyntaxUID" else "replaced" if tag in fresh else "removed")
    data.file_meta = fresh
    data.preamble = b"\0" * 128


def _clean(data: Dataset, job: _Job, path: str, depth: int) -> None:
    if depth > DEEPEST:
        raise QuarantineError(Reason.NESTED_TOO_DEEP, f"sequences nested deeper than {DEEPEST}")
    label = _segment_label(data) if "SegmentLabel" in data else ""
    for tag in list(data.keys()):
        number = int(tag)
        name = path + _name(number)
        action = job.profile.action(number, nested=depth > 0)
        outcome = _apply(data, number, action, job, name, depth)
        job.changes.add(name, outcome)
    if label:
        data.SegmentLabel = label


def _apply(data: Dataset, tag: int, action: Action, job: _Job, path: str, depth: int) -> str:
    """Carry out one action and return its outcome."""
    if action == Action.REMOVE:
        del data[tag]
        return "removed"
    if action == Action.KEEP:
        return _keep(data, tag, job)
    if action == Action.EMPTY:
        data[tag] = _element(tag, None if _vr(tag) != "SQ" else [])
        return "emptied"
    if action == Action.RECURSE:
        if data[tag].VR != "SQ":
            return _apply(data, tag, Action.REMOVE, job, path, depth)
        for item in data[tag].value:
            _clean(item, job, f"{path}/", depth + 1)
        return "kept"
    value = _VALUES[action](data, tag, job)
    if value is None:
        rest = _device_rest(tag, job) if action == Action.DEVICE else job.profile.fallback(tag, nested=depth > 0)
        if rest == action:  # a sequence without any item has no dummy: it goes
            rest = Action.REMOVE
        return _apply(data, tag, rest, job, path, depth)
    data[tag] = _element(tag, value)
    return "replaced"


def _keep(data: Dataset, tag: int, job: _Job) -> str:
    """Leave an attribute as it is if everything about it is as the dictionary says; else remove or replace it."""
    element: Any = data.get_item(tag)
    listed = _vr(tag)
    if element.VR == "UN" or (isinstance(element, RawDataElement) and element.VR is None and listed not in BYTES):
        element = data[tag]  # implicit or unknown on the wire: pydicom looks it up
    allowed = EITHER.get(listed, (listed,))
    if element.VR is not None and element.VR not in allowed:
        del data[tag]
        return "removed"
    if listed in BYTES or listed == "US or SS":
        return _keep_binary(data, tag, element)
    if listed in ("OW", "OB", "OB or OW"):
        return "kept"
    return _keep_text(data, tag, element, job)


def _keep_binary(data: Dataset, tag: int, element: Any) -> str:
    expected = dictionary_VM(tag)
    if isinstance(element, RawDataElement):
        size = BYTES[element.VR or EITHER.get(_vr(tag), (_vr(tag),))[0]]
        count, rest = divmod(len(element.value or b""), size)
    else:
        count, rest = element.VM, 0
    if rest or (expected.isdigit() and count not in (0, int(expected))):
        del data[tag]
        return "removed"
    return "kept"


def _keep_text(data: Dataset, tag: int, element: Any, job: _Job) -> str:
    """Keep coded strings, numbers and UIDs that are what they claim to be, value by value."""
    vr = _vr(tag)
    values = _texts(element)
    if vr == "UI":
        cleaned = [v if not v or is_standard_uid(v) else job.remap(v) for v in values]
    elif vr in ("IS", "DS"):
        pattern = _WHOLE if vr == "IS" else NUMBER
        cleaned = values if all(not v or (len(v) <= 16 and pattern.fullmatch(v)) for v in values) else []
    elif vr == "CS":
        cleaned = [v if v in WORDS else "" for v in values]
    else:
        cleaned = []
    if cleaned == values:
        return "kept"
    if not any(cleaned):
        del data[tag]
        return "removed"
    data[tag] = _element(tag, cleaned if len(cleaned) > 1 else cleaned[0])
    return "replaced"


def _element(tag: int, value: Any) -> DataElement:
    """Return an element of a value that is ours: pydicom need not check and convert it, where it is a plain string."""
    vr = _vr(tag)
    if vr == "SQ":
        return DataElement(tag, vr, Items(value), already_converted=True)
    return DataElement(tag, vr, value, already_converted=isinstance(value, str) and vr not in ("PN", "IS", "DS", "UI"))


def _texts(element: Any) -> list[str]:
    """Return the values of a textual element, without padding."""
    value = element.value
    if isinstance(value, bytes):
        return [v.strip(" \0") for v in value.decode("latin-1").split("\\")]
    if value is None:
        return [""]
    values = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
    return [str(v).strip(" \0") for v in values]


def _plain(data: Dataset, tag: int) -> Any:
    """Return an element as it was read where its text is ASCII by its representation, else converted."""
    element: Any = data.get_item(tag)
    return element if isinstance(element.value, bytes) and _vr(tag) == element.VR else data[tag]


def _text(data: Dataset, tag: int) -> str:
    return " ".join(_texts(data[tag])) if data[tag].VR != "SQ" else ""


def _shifted(data: Dataset, tag: int, job: _Job) -> Any:
    values = [shift(_vr(tag), v, job.days) for v in _texts(_plain(data, tag))]
    if None in values:
        return None
    return values[0] if len(values) == 1 else values


def _keyed(data: Dataset, tag: int, job: _Job) -> Any:
    if _name(tag) == "PatientID":
        return job.patient
    text = _text(data, tag)
    return keyed_hash(job.key, "device", text, length=16) if text else None


def _remapped(data: Dataset, tag: int, job: _Job) -> Any:
    values = [job.remap(v) if v else v for v in _texts(_plain(data, tag))]
    return values[0] if len(values) == 1 else values


def _structured(data: Dataset, tag: int, job: _Job) -> Any:
    if _name(tag) == "AcquisitionContextSequence":
        return list(clean_acquisition_context(data)) or None
    return list(clean_content(data[tag].value or [], job.remap)) or None


def _codes(data: Dataset, tag: int, _: _Job) -> Any:
    return (clean_codes(data[tag].value or []) if data[tag].VR == "SQ" else []) or None


def _device(data: Dataset, tag: int, job: _Job) -> Any:
    """Return maker, model or software in our words; a made one where an annotation must have a value."""
    name, text = _name(tag), _text(data, tag)
    known = {"Manufacturer": known_maker, "ManufacturerModelName": known_model, "SoftwareVersions": version}
    found = ""
    if SOFTWARE in text.split():
        found = SOFTWARE
    elif name in known and job.profile.options.device == "keep":
        found = known[name](text)
    return found or None


def _device_rest(tag: int, job: _Job) -> Action:
    """What is left of a device's attribute of which we know no word."""
    if job.profile.kind == Kind.SEGMENTATION:
        return Action.DUMMY
    return Action.EMPTY if _name(tag) == "Manufacturer" else Action.REMOVE


def _dummy(data: Dataset, tag: int, job: _Job) -> Any:
    vr = _vr(tag)
    if vr == "UI":
        return _remapped(data, tag, job)
    if vr == "SQ":
        return _dummy_items(data[tag].value, job) if data[tag].VR == "SQ" else None
    return DUMMIES.get(vr, "removed")


def _dummy_items(items: Any, job: _Job) -> list[Dataset] | None:
    """Return one item in place of all: a dummy for each known attribute of the first, without sequences below it."""
    item = Dataset()
    for element in (items or [Dataset()])[0]:
        tag, vr = int(element.tag), element.VR
        if keyword_for_tag(tag) and not private_or_group(tag) and vr == _vr(tag) != "SQ":
            item.add_new(tag, vr, job.remap(str(element.value)) if vr == "UI" else DUMMIES.get(vr, "removed"))
    return [item] if len(item) else None


def _segment_label(data: Dataset) -> str:
    code, scheme = code_of(data.get("SegmentedPropertyTypeCodeSequence"))
    known = structure_by_code(scheme, code)
    return known.name if known is not None else f"Segment {int(data.get('SegmentNumber', 0) or 0)}"


@lru_cache(maxsize=8192)
def _vr(tag: int) -> str:
    return str(dictionary_VR(tag))


@lru_cache(maxsize=8192)
def _name(tag: int) -> str:
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


_VALUES = {
    Action.DUMMY: _dummy,
    Action.REMAP: _remapped,
    Action.KEYED: _keyed,
    Action.SHIFT: _shifted,
    Action.WORDS: lambda data, tag, job: known_words(_text(data, tag), job.words) or None,
    Action.CODES: _codes,
    Action.CONTENT: _structured,
    Action.DEVICE: _device,
}
