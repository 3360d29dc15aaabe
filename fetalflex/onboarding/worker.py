"""What runs inside the sandbox while a center is onboarded: headers are read here, and pixels for the page.

What comes out of a header is numbers, words of our own vocabularies and keyed hashes; a description's own text leaves
only for the private page, under `text`.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from fetalflex.deid.allowlist import clean_device, patient_pseudonym, read_age_weeks
from fetalflex.deid.header import clean_header
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.deid.pixels import PixelCleaner
from fetalflex.dicom.entry import OpenFile, guarded, open_dicom, read_header
from fetalflex.dicom.read import FrameReader, check_image
from fetalflex.dicom.region import read_calibration
from fetalflex.errors import QuarantineError, Reason
from fetalflex.ingest.tissue import tissue_frames
from fetalflex.masks.annotations import is_annotation, referenced_instances
from fetalflex.onboarding.words import find_word
from fetalflex.params import Center

Row = dict[str, Any]
MODALITIES = ("US", "IVUS", "SC", "OT", "SR", "SEG", "ECG", "DOC", "KO", "PR", "CT", "MR", "XA", "CR", "DX", "MG")
COLOURS = ("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
LONGEST_TEXT = 160
DEEPEST = 6
SIDE = 900
BLOCK = 2**20
MOST_REFERENCES = 200


def probe_headers(paths: list[str], center: str, *, key: PseudonymKey) -> Iterator[tuple[Row, list[Any]]]:
    """Yield one row per file, in order: what its header says in our own words, or the reason why it is unusable."""
    for number, path in enumerate(paths):
        try:
            with open_dicom(Path(path)) as file:
                row = _row(file, center, key)
        except QuarantineError as error:
            row = {"kind": "rejected", "reason": error.reason.value, "detail": error.detail}
        yield row | {"number": number}, []


def _row(file: OpenFile, center: str, key: PseudonymKey) -> Row:
    with guarded(Reason.DECODE_FAILED, "header cannot be read"):
        return _annotation(file.header, key) if is_annotation(file.header) else _image(file, center, key)


def _annotation(header: Dataset, key: PseudonymKey) -> Row:
    refers = [keyed_hash(key, "uid", uid) for uid in referenced_instances(header)[:MOST_REFERENCES]]
    return _about(header) | {"kind": "annotation", "refers": refers}


def _image(file: OpenFile, center: str, key: PseudonymKey) -> Row:
    header = file.header
    frames = check_image(header)
    text = " ".join(f"{header.get('StudyDescription', '')} {header.get('SeriesDescription', '')}".split())
    calibration = read_calibration(header)
    return _about(header) | {
        "kind": "image", "frames": frames, "rows": int(header.Rows), "columns": int(header.Columns),
        "device": clean_device(header), "word": find_word(text), "described": bool(text), "text": text[:LONGEST_TEXT],
        "region": calibration.region is not None, "spacing": calibration.spacing_mm is not None,
        "colour": _known(header.get("PhotometricInterpretation"), COLOURS),
        "burned": _known(header.get("BurnedInAnnotation"), ("YES", "NO"), "not stated"),
        "age": read_age_weeks(header) is not None, "patient": patient_pseudonym(header, center, key),
        "uid": keyed_hash(key, "uid", str(header.get("SOPInstanceUID", ""))), "pixels": _stored_pixels(file, key),
    }  # fmt: skip


def _stored_pixels(file: OpenFile, key: PseudonymKey) -> str:
    """Return a keyed hash of the pixels as they are stored, not decoded: equal for copies under another header."""
    if file.pixels is None:
        return ""
    file.stream.seek(file.pixels.start)
    digest, left = hashlib.sha256(), file.pixels.length or file.size - file.pixels.start
    while left > 0 and (block := file.stream.read(min(left, BLOCK))):
        digest.update(block)
        left -= len(block)
    return keyed_hash(key, "stored pixels", digest.hexdigest())


def _about(header: Dataset) -> Row:
    meta = header.file_meta
    return {
        "modality": _known(header.get("Modality"), MODALITIES),
        "storage": _uid_name(header.get("SOPClassUID")),
        "syntax": _uid_name(meta.get("TransferSyntaxUID")),
    }


def _known(value: Any, allowed: tuple[str, ...], otherwise: str = "other") -> str:
    """Return a value of ours, never the header's own text."""
    return next((name for name in allowed if value == name), otherwise)


def _uid_name(value: Any) -> str:
    """Return the standard's name of a UID; `other` for one that the standard does not have."""
    uid = UID(str(value or ""))
    return str(uid.name) if uid.name != uid and not uid.is_private else "other"


def preview(path: str, center: str, profile: dict[str, Any], *, key: PseudonymKey) -> Iterator[tuple[Row, list[Any]]]:
    """Yield one image before and after de-identification: a frame, at most `SIDE` pixels wide, and its header.

    The answer shows identifiers: it is for the private page alone.
    """
    center_profile = Center.model_validate(profile)
    file = Path(path)
    header = read_header(file)
    with guarded(Reason.DECODE_FAILED, "header cannot be read"):
        before, calibration = _values(header), read_calibration(header)
    with open_dicom(file) as opened:
        reader, cleaner = FrameReader(opened), PixelCleaner(header)
        if reader.total > 1:
            cleaner.prepare(tissue_frames(reader, calibration))
        frame = reader.frame(0)
    number, pixels = frame.number, frame.pixels
    cleaned = cleaner.clean(pixels, alone=True)
    cleaned_header = read_header(file)
    changes = clean_header(cleaned_header, center_profile.deidentify, center, key, tuple(center_profile.planes))
    after = _values(cleaned_header)
    rows = [
        {"name": str(row["attribute"]), "action": str(row["outcome"]),
         "before": before.get(str(row["attribute"]), ""), "after": after.get(str(row["attribute"]), "")}
        for row in changes.rows()
    ]  # fmt: skip
    step = max(1, -(-pixels.shape[1] // SIDE))
    marks = [[mark.kind, [v // step for v in mark.box]] for mark in cleaned.marks]
    said = {"blanked": float(cleaned.blanked), "marks": marks, "changes": rows, "frame": number}
    yield said, [_rgb(p)[::step, ::step] for p in (pixels, cleaned.pixels)]


def _values(header: Dataset) -> dict[str, str]:
    """Return attribute path -> its value as text, cut: for the private page."""
    found: dict[str, str] = {}

    def walk(data: Dataset, path: str, depth: int) -> None:
        for element in data:
            name = path + (element.keyword or f"{element.tag.group:04X},{element.tag.element:04X}")
            if element.VR == "SQ":
                found.setdefault(name, f"sequence of {len(element.value)}")
                for item in element.value[:4] if depth < DEEPEST else ():
                    walk(item, f"{name}/", depth + 1)
            else:
                found.setdefault(name, _text(element.value))

    walk(header, "", 0)
    walk(header.file_meta, "", 0)
    return found


def _text(value: Any) -> str:
    """Return a value in one short line: several values as DICOM writes them, bytes by their number."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    values = value if isinstance(value, list | tuple | MultiValue) else [value]
    return " ".join("\\".join(str(v) for v in values).split())[:LONGEST_TEXT]


def _rgb(pixels: Any) -> Any:
    return np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels
