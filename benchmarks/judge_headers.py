"""The judge of planted headers: knows the standard's table, the plan and the output's bytes; nothing of the cleaner.

Two readings of the table: `basic` accepts what the Basic Profile and every option allow (for other tools), `chosen`
what the options chosen here ask for: modified dates, clean descriptors, structured content, device.
"""

import csv
import re
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from benchmarks.plant_headers import Planted

LETTERS = {
    t[0] << 16 | t[1]: letters
    for letters, tags in {
        "D": table.D_TAGS, "Z": table.Z_TAGS, "X": table.X_TAGS, "U": table.U_TAGS, "ZD": table.Z_D_TAGS,
        "XZ": table.X_Z_TAGS, "XD": table.X_D_TAGS, "XZD": table.X_Z_D_TAGS, "XZU": table.X_Z_U_STAR_TAGS,
    }.items() for t in tags if len(t) == 2
}  # fmt: skip
MEANING = {"X": "removed", "Z": "emptied", "D": "replaced", "U": "remapped"}
NEEDLES = re.compile(rb"zq[a-hj-km-np-z2-9]{9}|9055\d{7}|1\.3\.6\.1\.4\.1\.99999\.\d+\.\d+")
EXAMINATION = ("StudyDescription", "SeriesDescription", "ProtocolName")
OPTIONS = Path(__file__).parents[1] / "fetalflex" / "deid" / "options_e1_1.csv"
# What must come out as it went in: everything that the chain reads of a header, and technique.
_USEFUL = """
Rows Columns NumberOfFrames FrameTime FrameTimeVector CineRate RecommendedDisplayFrameRate Modality SOPClassUID
SeriesNumber InstanceNumber PixelSpacing SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated
BitsStored HighBit PixelRepresentation MechanicalIndex LossyImageCompression UltrasoundColorDataPresent
FrameIncrementPointer
"""
USEFUL = _USEFUL.split()
_REGION = """
RegionSpatialFormat RegionDataType RegionFlags RegionLocationMinX0 RegionLocationMinY0 RegionLocationMaxX1
RegionLocationMaxY1 PhysicalUnitsXDirection PhysicalUnitsYDirection PhysicalDeltaX PhysicalDeltaY ReferencePixelX0
ReferencePixelY0 TransducerFrequency
"""
REGION = _REGION.split()

MAKERS = {"philips": "philips", "g.e.": "ge", "siemens": "siemens", "aloka": "aloka", "sonosite": "sonosite"}


def option_rows() -> dict[int, dict[str, str]]:
    """Return the option columns of Table E.1-1 by tag."""
    lines = [line for line in OPTIONS.read_text().splitlines() if not line.startswith("#")]
    return {int(r["tag"], 16): r for r in csv.DictReader(lines) if re.fullmatch("[0-9A-F]{8}", r["tag"])}


def allowed(item: Planted, options: dict[int, dict[str, str]], reading: str) -> set[str]:
    """Return the outcomes that are right for one planted value."""
    keyword = keyword_for_tag(item.tag)
    if item.where in ("private", "unknown", "overlay", "curve", "icon", "preamble", "beside the table", "private item"):
        return {"removed"} if item.where != "beside the table" else {"removed", "emptied", "replaced"}
    if item.where == "file meta":
        return {"removed", "replaced", "emptied", "remapped"}
    if item.where in ("meaning of a code", "structured content", "where no text belongs") or item.where.endswith(
        "item"
    ):
        # What stands in an item that may go, be emptied or cleaned: only that the value itself is gone.
        return {"removed", "emptied", "replaced", "remapped", "shifted"}
    right = {MEANING[letter] for letter in LETTERS[item.tag]}
    row = options.get(item.tag, {})
    if keyword == "PatientID":
        right = {"replaced"}
    if row.get("structured") == "C" or ("U" in LETTERS[item.tag] and item.vr == "SQ"):
        right |= {"cleaned", "removed", "emptied", "replaced"}
    if item.vr == "UI" and "replaced" in right:
        right |= {"remapped"}  # another UID is a UID's dummy
    dated = item.vr in ("DA", "DT", "TM") and row.get("modified_dates") == "C"
    if reading == "basic":
        right |= {"shifted"} if dated else set()
        right |= {"cleaned", "removed", "emptied", "replaced"} if row.get("descriptors") == "C" else set()
        return right | ({"replaced"} if row.get("device") else set())
    if dated:
        return {"shifted"}
    if keyword in EXAMINATION:
        return {"cleaned"}
    return {"replaced"} if keyword == "DeviceSerialNumber" else right


class Judge:
    """Judges outputs; instance UIDs must be consistent over all files, shifts over all files of a patient."""

    def __init__(self, reading: str) -> None:
        self.reading, self._options = reading, option_rows()
        self.right, self.wrong = Counter[str](), Counter[str]()
        self.left: list[str] = []
        self.mistakes: list[str] = []
        self.useful = Counter[bool]()
        self.lost: list[str] = []
        self._uids: dict[str, set[str]] = defaultdict(set)
        self._days: dict[str, set[int]] = defaultdict(set)

    def judge(self, original: Path, output: Path, planted: list[Planted], patient: str) -> None:
        """Judge one file: every planted place, every byte, every useful attribute."""
        data = dcmread(output)
        raw = output.read_bytes()
        self._look_for_needles(raw, data, planted)
        for item in planted:
            outcome = self.outcome(data, item, patient)
            if outcome in allowed(item, self._options, self.reading):
                self.right[item.where] += 1
            else:
                self.wrong[item.where] += 1
                self.mistakes.append(
                    f"{item.where}: {keyword_for_tag(item.tag) or f'{item.tag:08X}'} {item.vr} was {outcome}"
                )
        self._look_for_useful(dcmread(original), data)

    def consistency(self) -> list[str]:
        """Return what is inconsistent over files: a UID with two successors, a patient with two shifts."""
        found = [f"a UID became {len(new)} UIDs" for new in self._uids.values() if len(new) > 1]
        news = [next(iter(new)) for new in self._uids.values()]
        found += ["two UIDs became one"] if len(news) != len(set(news)) else []
        return found + [
            f"a patient was shifted by {len(days)} numbers of days" for days in self._days.values() if len(days) > 1
        ]

    def _look_for_needles(self, raw: bytes, data: Dataset, planted: list[Planted]) -> None:
        needles = {p.needle for p in planted if p.needle}
        texts = [raw.lower(), raw.replace(b"\0", b"").lower()]  # as bytes of Latin or UTF-8, and of UTF-16
        texts += [str(e.value).lower().encode() for e in data.iterall() if e.VR != "SQ" and e.keyword != "PixelData"]
        texts += [str(e.value).lower().encode() for e in data.file_meta]
        found = {m.decode() for text in texts for m in NEEDLES.findall(text)} & needles
        self.left += [
            f"{p.where}: {keyword_for_tag(p.tag) or f'{p.tag:08X}'} {p.vr}" for p in planted if p.needle in found
        ]

    def outcome(self, data: Dataset, item: Planted, patient: str) -> str:
        """Return what became of one planted value."""
        if item.where == "preamble":
            return "removed" if item.value.encode() not in (data.preamble or b"") else "kept"
        place: Any = data.file_meta if item.where == "file meta" else data
        for tag, number in item.path:
            if tag not in place or place[tag].VR != "SQ" or len(place[tag].value) <= number:
                return "removed"
            place = place[tag].value[number]
        if item.tag not in place:
            return "removed"
        element = place[item.tag]
        if element.VR == "SQ":
            return "emptied" if not element.value else "replaced" if "zq" not in str(element.value).lower() else "kept"
        value = element.value
        if isinstance(value, bytes) and value and not value.strip(b"\0"):
            return "replaced"
        text = value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)
        return self._compare(item, text.strip(" \0"), patient)

    def _compare(self, item: Planted, text: str, patient: str) -> str:
        if not text:
            return "emptied"
        if item.vr == "UI":
            if text != item.value and re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", text) and len(text) <= 64:
                self._uids[item.value].add(text)
                return "remapped"
            return "kept"
        if item.vr in ("DA", "DT", "TM"):
            return self._dated(item, text, patient)
        if item.needle and item.needle in text.lower():
            return "kept"
        if text == item.value:
            return "kept"
        return "cleaned" if "femur" in text.lower() else "replaced"

    def _dated(self, item: Planted, text: str, patient: str) -> str:
        if item.vr == "TM":
            return "shifted" if text == item.value else "replaced"  # days were shifted: the time of day holds
        try:
            old, new = (date(int(v[:4]), int(v[4:6]), int(v[6:8])) for v in (item.value, text))
        except ValueError:
            return "replaced"
        days = (old - new).days
        if days == 0:
            return "kept"
        if not 1 <= days <= 3650 or text[8:] != item.value[8:]:
            return "replaced"
        self._days[patient].add(days)
        return "shifted"

    def _look_for_useful(self, before: Dataset, after: Dataset) -> None:
        pairs = [(before, after, k) for k in USEFUL]
        regions = [d.get("SequenceOfUltrasoundRegions") or [] for d in (before, after)]
        pairs += [(old, new, k) for old, new in zip(*regions, strict=False) for k in REGION]
        described = _described(before) if self.reading == "chosen" else {}
        for old, new, keyword in pairs:
            tag = tag_for_keyword(keyword) or 0
            if tag in old and dictionary_VR(tag) == old[tag].VR:
                kept = tag in new and new[tag].value == described.get(keyword, old[tag].value)
                self.useful[kept] += 1
                self.lost += [] if kept else [keyword]
        maker = str(before.get("Manufacturer", "")).lower()
        for word, name in MAKERS.items():
            if word in maker:
                kept = name in str(after.get("Manufacturer", "")).lower()
                self.useful[kept] += 1
                self.lost += [] if kept else ["Manufacturer"]


def _described(before: Dataset) -> dict[str, Any]:
    """Return what the image pixel module must say where samples are stored anew: palettes and YBR as RGB, 8 bits."""
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    photometric = str(before.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2") and "SegmentSequence" not in before:
        return {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0, **eight}
    return {}
