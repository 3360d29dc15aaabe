"""Identifiers planted in DICOM headers in the manner of the MIDI-B challenge: unique tokens, each with its place.

Every attribute of Table E.1-1 that the dictionary knows gets a value of its value representation, on top, in items of
sequences that are kept and below those; then private tags, unknown attributes, free text outside of the table, codes'
meanings, structured content, overlays, curves, an icon, the file meta and the preamble.
"""

import random
from dataclasses import asdict, dataclass
from typing import Any

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom import DataElement, Dataset, Sequence
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
TEXT = ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "CS", "AE", "UR", "UN", "OB", "OW")
# What an image needs as it is; the pixels are the other benchmark's.
SHARED = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")
SPARED = {"PixelData", "SOPClassUID"}
# Text that a device writes and Table E.1-1 does not name.
BESIDE = ("TransducerData", "ProcessingFunction", "OutputPower", "LUTExplanation", "ViewName", "StageName",
          "EventTimerNames", "WindowCenterWidthExplanation", "PositionReferenceIndicator", "CodingSchemeName",
          "ContrastBolusRoute", "NTPSourceAddress", "TimeSource", "TriggerSourceOrType",
          "StorageMediaFileSetID", "UniversalEntityID", "LocalNamespaceEntityID")  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """One planted value. `path`: (tag, item) pairs down to the data set; `where`: table, private, meta, ...

    `needle`: what may be nowhere in the output's bytes, in lower case; empty where the value alone tells nothing (a
    date, an age): then only its action is judged. `value`: as text.
    """

    path: tuple[tuple[int, int], ...]
    tag: int
    vr: str
    where: str
    needle: str
    value: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)


class Planter:
    """Plants into one data set; `random.Random` so that equal seeds plant the same."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)  # noqa: S311
        self.planted: list[Planted] = []

    def word(self) -> str:
        """Return a token that occurs nowhere else."""
        return "zq" + "".join(self._rng.choices(LETTERS, k=9))

    def value(self, vr: str, keyword: str = "") -> tuple[Any, str] | None:
        """Return (value of that representation, needle), None for representations that hold no identifier."""
        word, rng = self.word(), self._rng
        number = f"9055{rng.randrange(10**7):07d}"
        kinds = [word.capitalize(), f"{word} tel +49 30 {number}", f"{word}@mail.example", f"{word} Street 7, Town",
                 f"MRN {word}/{number}"]  # fmt: skip
        if keyword in ("StudyDescription", "SeriesDescription", "ProtocolName"):
            return f"Femur of {word}", word
        if vr in ("LO", "ST", "LT", "UT", "UC"):
            return rng.choice(kinds), word
        if vr == "PN":
            return f"{word.capitalize()}^Ann^^Dr", word
        if vr in ("SH", "CS", "AE"):
            return (word.upper(), word)
        if vr == "UR":
            return f"http://{word}.example/{number}", word
        if vr in ("OB", "OW", "UN"):
            return (word + "x").encode(), word
        if vr == "UI":
            uid = f"1.3.6.1.4.1.99999.{rng.randrange(1, 10**9)}.{rng.randrange(1, 10**9)}"
            return uid, uid
        if vr in ("IS", "DS"):
            return number, number
        day, clock = f"{rng.randrange(1925, 2024)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}", self._clock()
        plain = {"DA": day, "TM": clock, "DT": day + clock, "AS": f"{rng.randrange(18, 99):03d}Y",
                 "US": rng.randrange(1, 65535), "SS": rng.randrange(1, 32767)}  # fmt: skip
        return (plain[vr], "") if vr in plain else None

    def _clock(self) -> str:
        rng = self._rng
        return f"{rng.randrange(24):02d}{rng.randrange(60):02d}{rng.randrange(60):02d}.{rng.randrange(10**6):06d}"

    def put(self, data: Dataset, tag: int, vr: str, where: str, path: tuple[tuple[int, int], ...] = ()) -> None:
        """Plant one value at a tag; a sequence gets an item with a name, a text and a UID in it."""
        if vr == "SQ":
            item = Dataset()
            data.add(DataElement(tag, "SQ", Sequence([item])))
            self.planted.append(Planted(path, tag, vr, where, "", "1 item"))
            for keyword in ("PatientName", "CodeValue", "CodeMeaning", "ReferencedSOPInstanceUID", "InstitutionName"):
                inner = tag_for_keyword(keyword) or 0
                self.put(item, inner, dictionary_VR(inner), f"{where} item", (*path, (tag, 0)))
            return
        made = self.value(vr, keyword_for_tag(tag))
        if made is not None:
            data.add(DataElement(tag, vr, made[0]))
            self.planted.append(Planted(path, tag, vr, where, made[1], str(made[0])))


def table_tags() -> list[tuple[int, str]]:
    """Return (tag, VR) of every attribute of Table E.1-1 that the dictionary knows and a data set may hold."""
    tags = sorted(t[0] << 16 | t[1] for t in table.ALL_TAGS if len(t) == 2)
    return [
        (t, dictionary_VR(t))
        for t in tags
        if t >> 16 >= 0x0008 and t < 0xFFFA0000 and keyword_for_tag(t) and keyword_for_tag(t) not in SPARED
    ]


def plant(data: Dataset, seed: str, patient: str, *, nested: int = 60) -> list[Planted]:
    """Plant everywhere in a data set with file meta, and return what was planted where.

    Files of one `patient` (a seed, too) get the same patient number, issuer and study.
    """
    planter, shared = Planter(seed), Planter(patient)
    structured = {"ContentSequence", "AcquisitionContextSequence"}
    for tag, vr in table_tags():
        if keyword_for_tag(tag) == "IconImageSequence" or (
            keyword_for_tag(tag) in structured and keyword_for_tag(tag) in data
        ):
            continue  # planted below
        planter.put(data, tag, vr, "table")
    planter.planted = [p for p in planter.planted if keyword_for_tag(p.tag) not in SHARED or p.path]
    for keyword in SHARED:
        tag = tag_for_keyword(keyword) or 0
        shared.put(data, tag, dictionary_VR(tag), "table" if tag in dict(table_tags()) else "beside the table")
    planter.planted += shared.planted
    for keyword in BESIDE:
        tag = tag_for_keyword(keyword) or 0
        planter.put(data, tag, dictionary_VR(tag), "beside the table")
    _plant_nested(planter, data, seed, nested)
    _plant_codes(planter, data)
    _plant_private(planter, data)
    _plant_groups(planter, data)
    _plant_meta(planter, data)
    return planter.planted


def _plant_nested(planter: Planter, data: Dataset, seed: str, count: int) -> None:
    """Plant table attributes in items of kept sequences, one and three levels down."""
    rng = random.Random(f"{seed} nested")  # noqa: S311
    regions = data.get("SequenceOfUltrasoundRegions")
    if not regions:
        data.SequenceOfUltrasoundRegions = regions = Sequence([Dataset()])
        regions[0].RegionFlags = 0
    inner = Dataset()
    inner.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    middle = Dataset()
    middle.ReferencedInstanceSequence = Sequence([inner])
    data.ReferencedSeriesSequence = Sequence([middle])
    series, instance = (tag_for_keyword(k) or 0 for k in ("ReferencedSeriesSequence", "ReferencedInstanceSequence"))
    region = tag_for_keyword("SequenceOfUltrasoundRegions") or 0
    flat = [
        (t, v) for t, v in table_tags() if keyword_for_tag(t) not in ("ContentSequence", "AcquisitionContextSequence")
    ]
    for item, path in ((regions[0], ((region, 0),)), (inner, ((series, 0), (instance, 0)))):
        for tag, vr in rng.sample(flat, min(count, len(flat))):
            if tag not in item:
                planter.put(item, tag, vr, f"nested {len(path)}", path)


def _plant_codes(planter: Planter, data: Dataset) -> None:
    """Plant a name as the meaning of a true code, and a local code; texts and names in structured content."""
    meaning = tag_for_keyword("CodeMeaning") or 0
    for keyword, code, scheme in (("AnatomicRegionSequence", "69536005", "SCT"), ("ViewCodeSequence", "47", "99ZQ")):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = code, scheme
        setattr(data, keyword, Sequence([item]))
        planter.put(item, meaning, "LO", "meaning of a code", ((tag_for_keyword(keyword) or 0, 0),))
    for keyword in ("AcquisitionContextSequence", "ContentSequence"):
        items = list(data.get(keyword) or [])
        for kind, inner in (("TEXT", "TextValue"), ("PNAME", "PersonName"), ("DATE", "Date")):
            item = Dataset()
            item.ValueType, item.RelationshipType = kind, "CONTAINS"
            tag = tag_for_keyword(inner) or 0
            planter.put(
                item, tag, dictionary_VR(tag), "structured content", ((tag_for_keyword(keyword) or 0, len(items)),)
            )
            items.append(item)
        setattr(data, keyword, Sequence(items))


def _plant_private(planter: Planter, data: Dataset) -> None:
    for group in (0x0009, 0x0019, 0x0029, 0x7FE1):
        planter.put(data, group << 16 | 0x0010, "LO", "private")
        for element, vr in enumerate(("LO", "PN", "UN", "OB", "UI", "DS", "SQ", "LT")):
            planter.put(data, group << 16 | 0x1000 | element, vr, "private")
    # Attributes that no dictionary knows, of even groups.
    for tag, vr in ((0x00189FF1, "LO"), (0x00209FF3, "UN"), (0x00409FF5, "PN"), (0x00569FF1, "UT")):
        planter.put(data, tag, vr, "unknown")
    for keyword, vr in (
        ("WindowCenter", "LO"),
        ("HeartRate", "LO"),
        ("TransducerType", "CS"),
        ("BodyPartExamined", "CS"),
    ):
        planter.put(data, tag_for_keyword(keyword) or 0, vr, "where no text belongs")


def _plant_groups(planter: Planter, data: Dataset) -> None:
    """Plant overlays, curves and an icon."""
    for group in (0x6000, 0x6002):
        data.add_new(group << 16 | 0x0010, "US", 8)
        data.add_new(group << 16 | 0x0011, "US", 8)
        for element, vr in ((0x3000, "OW"), (0x4000, "LT"), (0x0022, "LO"), (0x1500, "LO")):
            planter.put(data, group << 16 | element, vr, "overlay")
    for element, vr in ((0x3000, "OW"), (0x2500, "LO"), (0x0022, "LO")):
        planter.put(data, 0x5000 << 16 | element, vr, "curve")
    icon = Dataset()
    icon.Rows, icon.Columns, icon.SamplesPerPixel, icon.PhotometricInterpretation = 4, 3, 1, "MONOCHROME2"
    icon.BitsAllocated = icon.BitsStored = 8
    data.IconImageSequence = Sequence([icon])
    path = ((tag_for_keyword("IconImageSequence") or 0, 0),)
    planter.put(icon, tag_for_keyword("PixelData") or 0, "OB", "icon", path)


def _plant_meta(planter: Planter, data: Dataset) -> None:
    for keyword, vr in (("SourceApplicationEntityTitle", "AE"), ("SendingApplicationEntityTitle", "AE"),
                        ("ReceivingApplicationEntityTitle", "AE"), ("ImplementationVersionName", "SH"),
                        ("PrivateInformationCreatorUID", "UI"), ("PrivateInformation", "OB")):  # fmt: skip
        planter.put(data.file_meta, tag_for_keyword(keyword) or 0, vr, "file meta")
    word = planter.word()
    data.preamble = word.encode().ljust(128, b"\0")
    planter.planted.append(Planted((), 0, "", "preamble", word, word))
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
