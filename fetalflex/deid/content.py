"""Structured content: measurements, codes, outlines and references stay; texts, names, dates and places go.

Every kept item is built anew from known parts, so that nothing else can ride along.
Source: DICOM PS3.15 E.3.4 (Clean Structured Content), PS3.3 C.17.3 (SR content) and C.7.6.14 (acquisition context).
"""

import math
import re
from collections.abc import Callable, Iterable

from pydicom import Dataset, Sequence

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.deid.allowlist import GESTATIONAL_AGE, read_age_weeks
from fetalflex.deid.codes import clean_codes, code_item, code_of
from fetalflex.deid.values import is_standard_uid
from fetalflex.errors import QuarantineError, Reason

DEEPEST = 16
TRACKING = ("112039", "DCM")
RELATIONS = frozenset(
    ["CONTAINS", "HAS PROPERTIES", "INFERRED FROM", "SELECTED FROM", "HAS OBS CONTEXT", "HAS CONCEPT MOD",
     "HAS ACQ CONTEXT"]
)  # fmt: skip
GRAPHICS = frozenset(["POINT", "MULTIPOINT", "POLYLINE", "CIRCLE", "ELLIPSE"])
TEMPLATES = re.compile(r"\d{1,5}")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_LABEL = re.compile(rf"({'|'.join(STRUCTURE_NAMES)}) \d{{1,3}}")
Remap = Callable[[str], str]


def clean_acquisition_context(data: Dataset) -> Sequence:
    """Return the acquisition context with nothing but the gestational age in weeks, if it states a plausible one."""
    try:
        weeks = read_age_weeks(data)
    except (ValueError, TypeError, AttributeError):  # a number that is none states no age
        weeks = None
    if weeks is None:
        return Sequence([])
    item = Dataset()
    item.ValueType = "NUMERIC"
    item.ConceptNameCodeSequence = [code_item(*GESTATIONAL_AGE, "Gestational Age")]
    item.MeasurementUnitsCodeSequence = [code_item("wk", "UCUM", "week")]
    item.NumericValue = f"{weeks:.4g}"
    return Sequence([item])


def clean_content(items: Iterable[Dataset], remap: Remap, depth: int = 0) -> Sequence:
    """Return the content items that may stay, cleaned, with what stands below them. `remap`: of instance UIDs.

    Raises: QuarantineError nested_too_deep beyond 16 levels.
    """
    if depth > DEEPEST:
        raise QuarantineError(Reason.NESTED_TOO_DEEP, f"content items nested deeper than {DEEPEST}")
    return Sequence([kept for item in items if (kept := _item(item, remap, depth)) is not None])


def _item(item: Dataset, remap: Remap, depth: int) -> Dataset | None:
    kind, relation = str(item.get("ValueType", "")), str(item.get("RelationshipType", ""))
    kept = Dataset()
    named = item.get("ConceptNameCodeSequence")
    if named:
        kept.ConceptNameCodeSequence = clean_codes(named)
        if not kept.ConceptNameCodeSequence:
            return None
    if kind not in _BUILDERS or (relation and relation not in RELATIONS) or not _BUILDERS[kind](item, kept, remap):
        return None
    kept.ValueType = kind
    if relation:
        kept.RelationshipType = relation
    below = clean_content(item.get("ContentSequence") or [], remap, depth + 1)
    if below:
        kept.ContentSequence = below
    return kept


def _container(item: Dataset, kept: Dataset, _: Remap) -> bool:
    kept.ContinuityOfContent = "CONTINUOUS" if item.get("ContinuityOfContent") == "CONTINUOUS" else "SEPARATE"
    templates = clean_templates(item.get("ContentTemplateSequence") or [])
    if templates:
        kept.ContentTemplateSequence = templates
    return True


def clean_templates(items: Iterable[Dataset]) -> list[Dataset]:
    """Return the references to templates of the standard (DCMR and a number)."""
    kept = []
    for item in items:
        number = str(item.get("TemplateIdentifier", ""))
        if item.get("MappingResource") == "DCMR" and TEMPLATES.fullmatch(number):
            one = Dataset()
            one.MappingResource, one.TemplateIdentifier = "DCMR", number
            kept.append(one)
    return kept


def _code(item: Dataset, kept: Dataset, _: Remap) -> bool:
    kept.ConceptCodeSequence = clean_codes(item.get("ConceptCodeSequence") or [])
    return bool(kept.ConceptCodeSequence)


def _number(item: Dataset, kept: Dataset, _: Remap) -> bool:
    values = []
    for measured in item.get("MeasuredValueSequence") or []:
        value, one = str(measured.get("NumericValue", "")), Dataset()
        units = clean_codes(measured.get("MeasurementUnitsCodeSequence") or [])
        if NUMBER.fullmatch(value) and len(value) <= 16 and units:
            one.NumericValue, one.MeasurementUnitsCodeSequence = value, units
            values.append(one)
    kept.MeasuredValueSequence = values
    return bool(values)


def _outline(item: Dataset, kept: Dataset, _: Remap) -> bool:
    graphic, points = str(item.get("GraphicType", "")), item.get("GraphicData")
    numbers = [float(v) for v in points] if isinstance(points, Iterable) and not isinstance(points, str | bytes) else []
    if graphic not in GRAPHICS or not numbers or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        return False
    kept.GraphicType, kept.GraphicData = graphic, numbers
    return True


def _image(item: Dataset, kept: Dataset, remap: Remap) -> bool:
    references = []
    for reference in item.get("ReferencedSOPSequence") or []:
        kind, one = str(reference.get("ReferencedSOPClassUID", "")), Dataset()
        if is_standard_uid(kind) and reference.get("ReferencedSOPInstanceUID"):
            one.ReferencedSOPClassUID = kind
            one.ReferencedSOPInstanceUID = remap(str(reference.ReferencedSOPInstanceUID))
            frames = reference.get("ReferencedFrameNumber")
            if frames not in (None, ""):
                one.ReferencedFrameNumber = frames
            references.append(one)
    kept.ReferencedSOPSequence = references
    return bool(references)


def _uid(item: Dataset, kept: Dataset, remap: Remap) -> bool:
    kept.UID = remap(str(item.get("UID", "")))
    return bool(item.get("UID"))


def _text(item: Dataset, kept: Dataset, _: Remap) -> bool:
    kept.TextValue = str(item.get("TextValue", ""))
    named = code_of(item.get("ConceptNameCodeSequence"))
    return named == TRACKING and _LABEL.fullmatch(kept.TextValue) is not None


_BUILDERS: dict[str, Callable[[Dataset, Dataset, Remap], bool]] = {
    "CONTAINER": _container, "CODE": _code, "NUM": _number, "SCOORD": _outline, "IMAGE": _image, "UIDREF": _uid,
    "TEXT": _text,
}  # fmt: skip
