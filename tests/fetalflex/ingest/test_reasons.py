"""Every reason of reading is reached by a made file, through the whole of ingest."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import CTImageStorage

from fetalflex.deid.keys import keyed_hash
from fetalflex.dicom.write import derive_uid, write_segmentation
from fetalflex.errors import Reason
from fetalflex.ingest.bucket import ingest_bucket, scan
from fetalflex.reasons import REASONS
from tests.fetalflex.dicom.samples import CENTER, INGEST, KEY, changed, deflated, head_mask, screen, write_image

NESTED = bytes.fromhex("400030a7") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
# Reached elsewhere: in test_sandbox by a worker's limits, by sources on the way in, by rules that need a profile.
OF_PIXELS = {Reason.COVERED_BY_TEXT}  # tests/fetalflex/deid/test_pixels.py
OF_LIMITS = {Reason.TIME_LIMIT, Reason.MEMORY_LIMIT, Reason.DECODER_CRASHED}
OF_SOURCES = {Reason.UNREADABLE, Reason.ENCRYPTED, Reason.DAMAGED_ARCHIVE, Reason.NOT_RETRIEVED}
OF_RULES = {Reason.RENDERED_3D, Reason.NOT_TWO_DIMENSIONAL, Reason.NO_SPACING}


def _text(path: Path) -> None:
    path.write_text("Jane Doe")


def _outside(path: Path) -> None:
    target = path.parent.parent / "elsewhere.dcm"
    write_image(target, 900)
    path.symlink_to(target)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _executable(path: Path) -> None:
    write_image(path, 901)
    path.write_bytes(b"MZ\x90\0".ljust(128, b"\0") + path.read_bytes()[128:])


def _cut(path: Path) -> None:
    write_image(path, 902)
    path.write_bytes(path.read_bytes()[:-9000])


def _cut_fragments(path: Path) -> None:
    write_image(path, 903, syntax="rle")
    path.write_bytes(path.read_bytes()[:-5000])


def _text_without_end(path: Path) -> None:
    write_image(path, 904)
    data = dcmread(path)
    del data.PixelData
    dcmwrite(path, data)
    path.write_bytes(path.read_bytes() + bytes.fromhex("400080a1") + b"UT\0\0" + struct.pack("<L", 0xFFFFFFFE) + b"x")


def _too_few_pixels(path: Path) -> None:
    write_image(path, 905)
    changed(path, PixelData=bytes(400))


def _wrong_offsets(path: Path) -> None:
    write_image(path, 906, syntax="rle")
    data = dcmread(path)
    first = struct.unpack("<L", data.PixelData[4:8])[0]
    table = bytes.fromhex("feff00e0") + struct.pack("<LL", 4, 0x7FFFFFFF)
    data.PixelData = table + data.PixelData[8 + first :]
    dcmwrite(path, data)


def _nested(path: Path) -> None:
    write_image(path, 907)
    raw = path.read_bytes()
    at = raw.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(raw[:at] + NESTED * 5000)


def _path_upwards(path: Path) -> None:
    write_image(path, 908, patient_id="../../../etc/cron.d/x")


def _control(path: Path) -> None:
    write_image(path, 909, patient_id="P" * 8)
    path.write_bytes(path.read_bytes().replace(b"P" * 8, b"P\x00\x1bP\x07PPP"))


def _no_uid(path: Path) -> None:
    write_image(path, 910, study_uid="1.2.3")
    changed(path, StudyInstanceUID="no uid at all")


def _huge(path: Path) -> None:
    write_image(path, 911)
    changed(path, Rows=65535, Columns=65535)


def _endless(path: Path) -> None:
    write_image(path, 912)
    changed(path, NumberOfFrames=2**31 - 1)


def _bomb(path: Path) -> None:
    write_image(path, 913)
    raw = deflated(path).read_bytes()
    length = struct.unpack("<L", raw[140:144])[0]
    packer = zlib.compressobj(9, wbits=-15)
    body = b"".join(packer.compress(bytes(2**20)) for _ in range(130)) + packer.flush()
    path.write_bytes(raw[: 144 + length] + body)


def _ct(path: Path) -> None:
    write_image(path, 914)
    changed(path, SOPClassUID=CTImageStorage)


def _no_pixels(path: Path) -> None:
    write_image(path, 915)
    changed(path, PixelData=None)


def _private_syntax(path: Path) -> None:
    write_image(path, 916)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0", 1))


def _seven_bits(path: Path) -> None:
    write_image(path, 917)
    changed(path, BitsAllocated=7)


def _damaged_stream(path: Path) -> None:
    write_image(path, 918, syntax="rle")
    raw = bytearray(path.read_bytes())
    at = raw.index(b"\xe0\x7f\x10\x00") + 12
    start = at + 8 + struct.unpack("<L", raw[at + 4 : at + 8])[0] + 8
    raw[start : start + 64] = b"\xff" * 64  # the head of the RLE segments
    path.write_bytes(bytes(raw))


def _dark(path: Path) -> None:
    write_image(path, 919, pixels=np.full((120, 160), 90, np.uint8))


def _black(path: Path) -> None:
    write_image(path, 920, pixels=np.zeros((120, 160), np.uint8))


def _flow(path: Path) -> None:
    pixels = np.repeat(screen(921)[..., None], 3, axis=2)
    pixels[40:80, 60:120] = (220, 30, 30)
    write_image(path, 921, pixels=pixels)


def _synthetic(path: Path) -> None:
    write_image(path, 925)
    changed(path, SyntheticData="YES")


def _twin(path: Path) -> None:
    write_image(path, 0)


def _same_uid(path: Path) -> None:
    write_image(path, 922, sop_uid=derive_uid("twice"))
    write_image(path.with_suffix(".other"), 923, sop_uid=derive_uid("twice"))


def _orphan(path: Path) -> None:
    image = write_image(path.parent.parent / "absent.dcm", 924)
    write_segmentation(path, image, {"head": head_mask()}, "orphan")


def _mismatch(path: Path) -> None:
    small = write_image(path.parent.parent / "small.dcm", 0, pixels=screen(shape=(90, 100)))
    write_segmentation(path, small, {"head": head_mask((90, 100))}, "small")


def _unknown(path: Path) -> None:
    image = write_image(path.parent.parent / "good.dcm", 0)
    write_segmentation(path, image, {"head": head_mask(), "csp": head_mask() & (np.arange(160) > 100)}, "unknown")
    path.write_bytes(path.read_bytes().replace(b"74968005", b"74968006"))


def _says_nothing(path: Path) -> None:
    image = write_image(path.parent.parent / "good.dcm", 0)
    write_segmentation(path, image, {"head": np.zeros((120, 160), bool)}, "nothing")


MADE: list[tuple[Callable[[Path], None], Reason]] = [
    (_text, Reason.NOT_DICOM), (_outside, Reason.OUTSIDE_TREE), (_pipe, Reason.OUTSIDE_TREE),
    (_executable, Reason.EXECUTABLE), (_cut, Reason.TRUNCATED), (_cut_fragments, Reason.TRUNCATED),
    (_text_without_end, Reason.LYING_LENGTH), (_too_few_pixels, Reason.LYING_LENGTH),
    (_wrong_offsets, Reason.LYING_LENGTH), (_nested, Reason.NESTED_TOO_DEEP), (_path_upwards, Reason.BAD_IDENTIFIER),
    (_control, Reason.BAD_IDENTIFIER), (_no_uid, Reason.BAD_IDENTIFIER), (_huge, Reason.TOO_LARGE),
    (_endless, Reason.TOO_LARGE), (_bomb, Reason.BOMB), (_ct, Reason.NOT_ULTRASOUND), (_no_pixels, Reason.NO_PIXELS),
    (_private_syntax, Reason.UNSUPPORTED_TRANSFER_SYNTAX), (_seven_bits, Reason.BAD_DIMENSIONS),
    (_damaged_stream, Reason.DECODE_FAILED), (_dark, Reason.EMPTY_IMAGE), (_black, Reason.NO_ULTRASOUND_REGION),
    (_flow, Reason.COLOUR_DOPPLER), (_twin, Reason.DUPLICATE), (_same_uid, Reason.UID_CONFLICT),
    (_orphan, Reason.ORPHAN_ANNOTATION), (_mismatch, Reason.ANNOTATION_MISMATCH), (_unknown, Reason.UNKNOWN_STRUCTURE),
    (_says_nothing, Reason.NO_ANNOTATION), (_synthetic, Reason.SYNTHETIC),
]  # fmt: skip


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], list[str]]:
    """One center with a file for every reason and one good image: reasons by file id, details."""
    folder = tmp_path_factory.mktemp("raw") / "made"
    write_image(folder / "_good.dcm", 0)
    for make, _ in MADE:
        make(folder / f"{make.__name__}.dcm")
    result = ingest_bucket(scan(folder, KEY), 0, 1, "made", CENTER, INGEST, KEY)
    assert len(result.frames) >= 2  # the good one, and one of the two that share a UID
    reasons: dict[str, set[str]] = {}
    for row in result.quarantine:
        reasons.setdefault(row["file_id"], set()).add(row["reason"])
    return reasons, [row["detail"] for row in result.quarantine]


@pytest.mark.parametrize(("make", "reason"), MADE)
def test_a_made_file_meets_its_reason(
    make: Callable[[Path], None], reason: Reason, ingested: tuple[dict[str, set[str]], list[str]]
) -> None:
    named = [f"{make.__name__}.dcm", f"{make.__name__}.other", "_good.dcm"]
    ids = [keyed_hash(KEY, "file", name) for name in named]
    # Of two files that are alike either is set aside: which, their contents or names decide.
    alike = {Reason.UID_CONFLICT: ids[:2], Reason.DUPLICATE: ids}.get(reason, ids[:1])
    assert set().union(*(ingested[0].get(name, set()) for name in alike)) == {reason.value}


def test_no_detail_quotes_a_file(ingested: tuple[dict[str, set[str]], list[str]]) -> None:
    text = " ".join(ingested[1])
    assert not [word for word in ("Jane", "etc", "74968006", "no uid at all", "/tmp") if word in text]


def test_every_reason_has_its_made_file_or_its_own_place_and_a_meaning() -> None:
    assert {reason for _, reason in MADE} | OF_LIMITS | OF_SOURCES | OF_RULES | OF_PIXELS == set(Reason)
    assert set(REASONS) == set(Reason)
