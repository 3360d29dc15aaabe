"""The one part of a WADO-RS answer, as a stream: `multipart/related` read without holding it in memory.

dicomweb-client reads an instance whole and parses it at once; a raw file must reach the disk unparsed.
Source: RFC 2046 5.1 (multipart), RFC 2387 (related); DICOM PS3.18 8.6.1.2 (multipart payloads).
"""

from collections.abc import Iterator
from email.message import Message

from fetalflex.errors import QuarantineError, Reason
from fetalflex.sources.polite import TransferError

HEAD_BYTES = 16 * 1024
DICOM = "application/dicom"


def read_instance(blocks: Iterator[bytes], content_type: str) -> Iterator[bytes]:
    """Yield the bytes of the one DICOM object of an answer.

    A bare `application/dicom` is taken too: some servers send it.
    Raises: QuarantineError (NOT_RETRIEVED) for another media type or several parts; TransferError where it is cut off.
    """
    kind, boundary = _parse(content_type)
    if kind == DICOM:
        yield from blocks
        return
    if kind != "multipart/related" or not 0 < len(boundary) <= 70:
        raise QuarantineError(Reason.NOT_RETRIEVED, "the server answers in another media type than multipart DICOM")
    delimiter = b"\r\n--" + boundary.encode("ascii", "replace")
    data = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
    _skip_head(blocks, data, delimiter)
    while True:
        end = data.find(delimiter)
        if end >= 0:
            yield bytes(data[:end])
            del data[: end + len(delimiter)]
            break
        if len(data) > len(delimiter):  # a delimiter may begin at a block's end
            yield bytes(data[: -len(delimiter)])
            del data[: -len(delimiter)]
        data += _more(blocks)
    while len(data) < 2:
        data += _more(blocks)
    if not data.startswith(b"--"):
        raise QuarantineError(Reason.NOT_RETRIEVED, "the server answers with several objects instead of one")


def _skip_head(blocks: Iterator[bytes], data: bytearray, delimiter: bytes) -> None:
    """Drop the preamble, the first delimiter and the part's header lines from `data`."""
    while (start := data.find(delimiter)) < 0 or (end := data.find(b"\r\n\r\n", start + len(delimiter))) < 0:
        if len(data) > HEAD_BYTES:
            raise QuarantineError(Reason.NOT_RETRIEVED, "the server's answer has no header of a part")
        data += _more(blocks)
    lines = bytes(data[start + len(delimiter) : end]).decode("latin-1").split("\r\n")
    types = [line.partition(":")[2] for line in lines if line.lower().startswith("content-type:")]
    if types and _parse(types[0])[0] != DICOM:
        raise QuarantineError(Reason.NOT_RETRIEVED, "the server's part is no DICOM object by its media type")
    del data[: end + 4]


def _more(blocks: Iterator[bytes]) -> bytes:
    block = next(blocks, b"")
    if not block:
        raise TransferError("cut off")
    return block


def _parse(content_type: str) -> tuple[str, str]:
    message = Message()
    message["Content-Type"] = " ".join(content_type.split()) or "none/none"
    return message.get_content_type(), str(message.get_param("boundary") or "")
