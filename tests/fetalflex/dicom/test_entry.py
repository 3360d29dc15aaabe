import os
import struct
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset

from fetalflex.dicom.entry import LIMITS, Limits, check_identifiers, open_dicom, read_header
from fetalflex.dicom.structure import MAX_DEPTH, PROGRAMS
from fetalflex.errors import QuarantineError, Reason
from tests.fetalflex.dicom.samples import changed, deflated, write_image

NESTED = bytes.fromhex("400030a7") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
CLOSED = bytes.fromhex("feff0de000000000") + bytes.fromhex("feffdde000000000")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.dcm")
    return tmp_path / "a.dcm"


@pytest.fixture
def header_only(image: Path) -> Path:
    data = dcmread(image)
    del data.PixelData
    dcmwrite(image, data)
    return image


def reason(path: Path, limits: Limits = LIMITS) -> Reason:
    with pytest.raises(QuarantineError) as caught:
        read_header(path, limits)
    return caught.value.reason


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_preamble_that_is_a_program_is_named(image: Path, program: bytes) -> None:
    image.write_bytes(program.ljust(128, b"\0") + image.read_bytes()[128:])
    assert reason(image) == Reason.EXECUTABLE


@pytest.mark.parametrize("legal", [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0", b"\0", b"Maker's own note"])
def test_a_preamble_of_a_tiff_or_of_a_maker_passes(image: Path, legal: bytes) -> None:
    image.write_bytes(legal.ljust(128, b"\0") + image.read_bytes()[128:])
    assert read_header(image).Rows == 120


def test_sequences_nest_so_deep_and_no_deeper(header_only: Path) -> None:
    raw = header_only.read_bytes()
    header_only.write_bytes(raw + NESTED * MAX_DEPTH + CLOSED * MAX_DEPTH)
    assert read_header(header_only).Rows == 120
    for depth in (MAX_DEPTH + 1, 200, 5000):
        header_only.write_bytes(raw + NESTED * depth + CLOSED * depth)
        assert reason(header_only) == Reason.NESTED_TOO_DEEP


def test_sequences_of_stated_length_nest_no_deeper(header_only: Path) -> None:
    inner = b""
    for _ in range(MAX_DEPTH + 1):
        item = bytes.fromhex("feff00e0") + struct.pack("<L", len(inner)) + inner
        inner = bytes.fromhex("400030a7") + b"SQ\0\0" + struct.pack("<L", len(item)) + item
    header_only.write_bytes(header_only.read_bytes() + inner)
    assert reason(header_only) == Reason.NESTED_TOO_DEEP


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0xFFFFFFFF, 10**6])
def test_a_text_longer_than_its_file_is_a_lie(header_only: Path, length: int) -> None:
    element = bytes.fromhex("400080a1") + b"UT\0\0" + struct.pack("<L", length) + b"text"
    header_only.write_bytes(header_only.read_bytes() + element)
    assert reason(header_only) == Reason.LYING_LENGTH


def test_an_item_longer_than_its_sequence_is_a_lie(header_only: Path) -> None:
    item = bytes.fromhex("feff00e0") + struct.pack("<L", 400)
    sequence = bytes.fromhex("400030a7") + b"SQ\0\0" + struct.pack("<L", len(item)) + item
    header_only.write_bytes(header_only.read_bytes() + sequence + bytes(500))
    assert reason(header_only) == Reason.LYING_LENGTH


def test_a_file_cut_within_its_header_is_truncated(image: Path) -> None:
    whole = image.read_bytes()
    at = whole.index(b"Fetal BRAIN")
    image.write_bytes(whole[: at + 4])
    assert reason(image) == Reason.TRUNCATED


def test_a_bomb_is_refused_without_being_inflated(image: Path) -> None:
    data = dcmread(image)
    data.ImageComments = "x"
    dcmwrite(image, data)
    raw = deflated(image).read_bytes()
    start = raw.index(b"1.2.840.10008.1.2.1.99")
    with open_dicom(image) as file:
        assert file.syntax == "1.2.840.10008.1.2.1.99"
    # The meta's last element decides where the compressed data begin: find it by inflating.
    begin = next(i for i in range(start + 22, len(raw)) if _inflates(raw[i:]))
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join([packer.compress(bytes(2**20)) for _ in range(400)]) + packer.flush()
    image.write_bytes(raw[:begin] + bomb)
    assert len(bomb) < 2**20
    tracemalloc.start()
    assert reason(image, replace(LIMITS, max_inflated_bytes=2**22)) == Reason.BOMB
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def _inflates(data: bytes) -> bool:
    try:
        return len(zlib.decompress(data, -15)) > 1000
    except zlib.error:
        return False


def test_deflated_data_that_ends_early_are_truncated(image: Path) -> None:
    raw = deflated(image).read_bytes()
    image.write_bytes(raw[: len(raw) // 2])
    assert reason(image) == Reason.TRUNCATED


@pytest.mark.parametrize("number", ["../../etc/passwd", "a/../b", "..", "..\\x", "A\x00B", "A\nB", "\x07"])
def test_numbers_with_a_path_upwards_or_control_characters_are_refused(image: Path, number: str) -> None:
    path = changed(image, PatientID="P" * 20)
    path.write_bytes(path.read_bytes().replace(b"P" * 20, number.encode().ljust(20)))
    assert reason(path) == Reason.BAD_IDENTIFIER


@pytest.mark.parametrize("number", ["12/345", "A..B", "1...", "Ü-7", "O'Neill 4", ""])
def test_numbers_that_hospitals_really_use_pass(image: Path, number: str) -> None:
    read_header(changed(image, PatientID=number, SpecificCharacterSet="ISO_IR 192"))


@pytest.mark.parametrize("uid", ["../../x", "1.2.x", "1..2", "not a uid", "1." + "2" * 70])
def test_what_is_no_uid_is_refused_by_its_attributes_name(image: Path, uid: str) -> None:
    with pytest.raises(QuarantineError, match="StudyInstanceUID is no UID") as caught:
        read_header(changed(image, StudyInstanceUID=uid))
    assert uid not in str(caught.value)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_every_uid_of_the_standard_passes(parts: list[int]) -> None:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.StudyInstanceUID = ".".join(map(str, parts))
    check_identifiers(header)


@given(st.binary(max_size=400), st.integers(0, 300))
def test_whatever_follows_a_preamble_is_read_or_named(noise: bytes, at: int) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"fetalflex-noise-{os.getpid()}"
    try:
        path.write_bytes(bytes(128) + b"DICM" + _META[:at] + noise)
        with suppress(QuarantineError):  # any other error fails
            assert read_header(path).file_meta is not None
    finally:
        path.unlink(missing_ok=True)


_META = bytes.fromhex("02001000") + b"UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0" + bytes(300)
