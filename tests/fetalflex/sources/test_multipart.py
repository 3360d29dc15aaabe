import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflex.errors import QuarantineError
from fetalflex.sources.multipart import read_instance
from fetalflex.sources.polite import TransferError

KIND = 'multipart/related; type="application/dicom"; boundary="b1"'
BODIES = st.lists(st.sampled_from([b"\r\n", b"--", b"b1", b"\r\n--b", b"x", b"\0", b"\r"]), max_size=20).map(b"".join)


def cut(data: bytes, size: int):
    return iter([data[i : i + size] for i in range(0, len(data), size)])


@given(
    body=BODIES.filter(lambda b: b"\r\n--b1" not in b and not b.startswith(b"--b1")),
    size=st.integers(1, 40),
    lead=st.booleans(),
)
def test_the_part_comes_out_whole_however_it_is_cut(body: bytes, size: int, lead: bool) -> None:
    data = (
        (b"preamble\r\n" if lead else b"") + b"--b1\r\nContent-Type: application/dicom\r\n\r\n" + body + b"\r\n--b1--"
    )
    assert b"".join(read_instance(cut(data, size), KIND)) == body


@given(body=BODIES.filter(lambda b: b"\r\n--b1" not in b), keep=st.floats(0, 0.999), size=st.integers(1, 40))
def test_a_cut_answer_is_never_taken_for_whole(body: bytes, keep: float, size: int) -> None:
    data = b"--b1\r\nContent-Type: application/dicom\r\n\r\n" + body + b"\r\n--b1--"
    with pytest.raises(TransferError):
        list(read_instance(cut(data[: int(len(data) * keep)], size), KIND))


def test_a_bare_object_is_taken_and_other_types_are_refused() -> None:
    assert list(read_instance(iter([b"x"]), "application/dicom")) == [b"x"]
    for kind in ("", "text/html", "multipart/related", "application/dicom+json", "multipart/mixed; boundary=b1"):
        with pytest.raises(QuarantineError):
            list(read_instance(iter([b"x"]), kind))


def test_an_endless_header_is_not_read() -> None:
    with pytest.raises(QuarantineError, match="no header"):
        list(read_instance(iter([b"x" * 1000] * 100), KIND))
