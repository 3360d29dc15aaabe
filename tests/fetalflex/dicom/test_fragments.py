import struct
from io import BytesIO

import pytest

from fetalflex.dicom.fragments import find_frames, read_frame
from fetalflex.errors import QuarantineError, Reason

END = bytes.fromhex("feffdde000000000")


def item(value: bytes, length: int | None = None) -> bytes:
    return bytes.fromhex("feff00e0") + struct.pack("<L", len(value) if length is None else length) + value


def offsets(*values: int) -> bytes:
    return item(struct.pack(f"<{len(values)}L", *values))


def frames(data: bytes, count: int, **options: bool) -> list[bytes]:
    stream = BytesIO(b"head" + data)
    found = find_frames(stream, 4, len(data) + 4, count, **options)
    return [read_frame(stream, fragments) for fragments in found]


def reason(data: bytes, count: int, **options: bool) -> Reason:
    with pytest.raises(QuarantineError) as caught:
        frames(data, count, **options)
    return caught.value.reason


def test_one_frame_takes_all_fragments() -> None:
    assert frames(item(b"") + item(b"ab") + item(b"cd") + END, 1) == [b"abcd"]


def test_as_many_fragments_as_frames_are_the_frames() -> None:
    assert frames(item(b"") + item(b"ab") + item(b"cd") + END, 2) == [b"ab", b"cd"]


def test_offsets_tell_which_fragments_make_a_frame() -> None:
    assert frames(offsets(0, 20) + item(b"ab") + item(b"cd") + item(b"ef") + END, 2) == [b"abcd", b"ef"]


def test_without_offsets_the_end_of_an_image_tells() -> None:
    assert frames(item(b"") + item(b"ab") + item(b"c\xff\xd9\0") + item(b"e\xff\xd9") + END, 2) == [
        b"abc\xff\xd9\0", b"e\xff\xd9",
    ]  # fmt: skip


def test_a_missing_end_of_the_sequence_is_forgiven_where_all_frames_are_there() -> None:
    assert frames(item(b"") + item(b"ab") + item(b"cd"), 2) == [b"ab", b"cd"]


@pytest.mark.parametrize(
    ("data", "count", "expected"),
    [
        (offsets(0, 11) + item(b"ab") + item(b"cd") + END, 2, Reason.LYING_LENGTH),
        (offsets(0, 10**9) + item(b"ab") + item(b"cd") + END, 2, Reason.LYING_LENGTH),
        (offsets(10, 0) + item(b"ab") + item(b"cd") + END, 2, Reason.LYING_LENGTH),
        (item(b"abc") + item(b"ab") + END, 1, Reason.LYING_LENGTH),
        (item(b"") + item(b"ab") + END, 2, Reason.LYING_LENGTH),
        (item(b"") + item(b"ab"), 2, Reason.TRUNCATED),
        (item(b"") + item(b"ab", 10**9), 1, Reason.LYING_LENGTH),
        (item(b"") + item(b"ab", 10**4), 1, Reason.TRUNCATED),
        (item(b"") + item(b"ab", 0xFFFFFFFF), 1, Reason.LYING_LENGTH),
        (item(b"") + item(b"a" * 100) + item(b"b" * 50, 100), 2, Reason.TRUNCATED),
        (item(b"") + b"garbage of some length", 1, Reason.LYING_LENGTH),
        (item(b"") + END, 1, Reason.NO_PIXELS),
        (item(b"") + item(b"ab") + item(b"cd") + item(b"ef") + END, 2, Reason.LYING_LENGTH),
    ],
)
def test_names_what_is_wrong_with_fragments(data: bytes, count: int, expected: Reason) -> None:
    assert reason(data, count) == expected


def test_rle_has_one_fragment_a_frame() -> None:
    assert reason(item(b"") + item(b"ab") + item(b"cd") + END, 1, one_each=True) == Reason.LYING_LENGTH
