"""Coded entries: an item stays only where its code is published, and its meaning is taken from there.

So a name typed as a code's meaning, a local code, or a versioned private scheme does not pass.
Source: DICOM PS3.3 8.8 (code sequence macro); the codes of DICOM PS3.16 as pydicom carries them, and our ontology's.
"""

from collections.abc import Iterable
from functools import lru_cache

from pydicom import DataElement, Dataset

from fetalflex.anatomy.ontology import STRUCTURES

LONGEST_MEANING = 64
OLD_SNOMED = ("SRT", "SNM3", "99SDM")


@lru_cache(maxsize=1)
def _published() -> dict[tuple[str, str], str]:
    # 0.6 s and some megabytes: only where a file has codes at all.
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr._snomed_dict import mapping

    found = {
        (scheme, code): meaning
        for scheme, keywords in concepts.items()
        for codes in keywords.values()
        for code, (meaning, _) in codes.items()
    }
    found |= {
        (old, code): found["SCT", new]
        for old in OLD_SNOMED
        for code, new in mapping["SRT"].items()
        if ("SCT", new) in found
    }
    return found | {(s.scheme, s.code): s.meaning for s in STRUCTURES}


def clean_codes(items: Iterable[Dataset]) -> list[Dataset]:
    """Return fresh items (value, scheme, published meaning, nothing else) of those whose code is published."""
    return [known for known in map(_clean, items) if known is not None]


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence."""
    item = Dataset()
    # Checked by their own vocabulary: pydicom's checks would take most of the time of cleaning a header.
    for tag, vr, text in ((0x00080100, "SH", value), (0x00080102, "SH", scheme), (0x00080104, "LO", meaning)):
        item[tag] = DataElement(tag, vr, text, already_converted=True)
    return item


def code_of(items: Iterable[Dataset] | None) -> tuple[str, str]:
    """Return (value, scheme) of the first item, two empty texts where there is none."""
    first = next(iter(items or ()), Dataset())
    return _text(first, "CodeValue"), _text(first, "CodingSchemeDesignator")


def _clean(item: Dataset) -> Dataset | None:
    value, scheme = _text(item, "CodeValue"), _text(item, "CodingSchemeDesignator")
    meaning = _published().get((scheme, value))
    return None if meaning is None else code_item(value, scheme, meaning[:LONGEST_MEANING].strip())


def _text(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword, "") or "").strip()
