"""DICOM files to mutate, in every transfer syntax that ultrasound comes in, and seeded mutations of their bytes."""

import io
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)  # fmt: skip

from fetalflex.dicom.write import (
    UltrasoundImage,
    compress_jpeg_lossless,
    derive_uid,
    write_boxes,
    write_segmentation,
    write_ultrasound,
)  # fmt: skip
from fetalflex.params import Phantom
from fetalflex.phantom.center import write_center

Bytes = bytearray
SHAPE = (120, 160)
DEFLATED = "1.2.840.10008.1.2.1.99"
CLIP = "1.2.840.10008.5.1.4.1.1.3.1"
SYNTAXES = ("native", "implicit", "big-endian", "deflated", "rle", "jpeg", "jpeg-lossless", "jpeg-ls", "j2k")
UIDS = [u.encode() for u in (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.110", "1.2.3.4",
)]  # fmt: skip
VRS = re.compile(rb"(?:AE|AS|AT|CS|DA|DS|DT|FD|FL|IS|LO|LT|OB|OW|PN|SH|SL|SQ|SS|ST|TM|UI|UL|UN|US|UT)")
ITEMS = re.compile(rb"\xfe\xff[\x00\x0d\xdd]\xe0")
MARKERS = re.compile(rb"\xff[\xc0\xc1\xc2\xc3\xc4\xda\xdb\xdd\xf7\x51\x52\x5c\x90]")
LENGTHS = (0, 1, 2, 3, 7, 127, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
NESTED = bytes.fromhex("400030a7") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
VALUES: dict[str, tuple[object, ...]] = {
    "Rows": (0, 1, 47, 65535, 8192, 4000), "Columns": (0, 1, 63, 65535, 8193, 161), "SamplesPerPixel": (0, 1, 2, 3, 4),
    "NumberOfFrames": (0, 2, 7, 1000, 2**31 - 1, -1), "BitsAllocated": (0, 1, 7, 8, 12, 16, 32, 64),
    "BitsStored": (0, 1, 8, 12, 16, 255), "HighBit": (0, 7, 15, 255), "PixelRepresentation": (0, 1, 2),
    "PlanarConfiguration": (0, 1, 2, 9), "WindowWidth": (0, -1, 1e300), "RescaleSlope": (0, -5, 1e30, float("inf")),
    "PhotometricInterpretation": ("RGB", "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422",
                                  "YBR_RCT", "YBR_ICT", "HSV", ""),
    "PatientID": ("../../etc/passwd", "A\0B", "12/345", "x" * 70, "\n", ""), "SOPInstanceUID": ("", "../x", "1." * 60),
    "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.2", CLIP, "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33"),
    "SpecificCharacterSet": ("ISO 2022 IR 87", "nonsense", "ISO_IR 192"), "Modality": ("US", "CT", ""),
}  # fmt: skip


def write_bases(folder: Path) -> list[Path]:
    """Write synthetic images, clips and annotations in all syntaxes and a few phantoms; add us_dicom if it is there."""
    rng = np.random.default_rng(0)
    for number, syntax in enumerate(SYNTAXES):
        for kind in ("grey", "colour", "clip"):
            _write_image(folder / f"{syntax}-{kind}.dcm", syntax, kind, rng, number)
    image = dcmread(folder / "native-grey.dcm")
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    write_segmentation(folder / "a.seg", image, {"head": ((y - 60) / 30) ** 2 + ((x - 80) / 40) ** 2 <= 1}, "s")
    write_boxes(folder / "a.sr", image, {"csp": [(40, 30, 60, 50)]}, "b")
    for _ in write_center(folder / "phantom", Phantom(device="curved-a", patients=2, seed=1), "fuzz"):
        pass
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    real = Path(os.environ.get("FETALFLEX_DATA", "")) / "us_dicom"
    if os.environ.get("FETALFLEX_DATA") and real.is_dir():
        found += sorted(p for p in real.iterdir() if p.suffix.lower() == ".dcm" and p.stat().st_size < 2**20)
    return found


def mutate(bases: list[bytes], seed: int, number: int) -> tuple[bytes, str]:
    """Return mutated file `number` of a seed, and the names of its mutations; the same for the same arguments."""
    rng = np.random.default_rng((seed, number))
    data = Bytes(bases[int(rng.integers(len(bases)))])
    names = []
    for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
        name = str(rng.choice(CHOICES))
        names.append(name)
        data = Bytes(MUTATIONS[name](data, rng, bases))
        if len(data) < 8:
            break
    return bytes(data), "+".join(names)


def _write_image(path: Path, syntax: str, kind: str, rng: np.random.Generator, number: int) -> None:
    """Write speckle in a rectangle: [H, W] grey, [H, W, 3] colour, or three grey frames."""
    pixels = np.zeros((*SHAPE, 3) if kind == "colour" else SHAPE, np.uint8)
    inside = pixels[20:-10, 30:-10]
    inside[:] = rng.integers(40, 220, inside.shape[:2], np.uint8)[..., None] if kind == "colour" else rng.integers(
        40, 220, inside.shape, np.uint8)  # fmt: skip
    uids = [derive_uid("fuzz", number, kind, name) for name in ("sop", "study", "series")]
    data = write_ultrasound(path, UltrasoundImage(pixels, *uids, patient_id=f"P{number}", spacing_mm=(0.2, 0.2)))
    frames = [pixels]
    if kind == "clip":
        frames = [np.roll(pixels, 3 * i, axis=1) for i in range(3)]
        data.NumberOfFrames, data.SOPClassUID = 3, CLIP
        data.PixelData = np.stack(frames).tobytes()
    if syntax == "jpeg-lossless":
        dcmwrite(path, data, enforce_file_format=True)
        compress_jpeg_lossless([path])
        return
    _encode(data, syntax, frames)
    dcmwrite(path, data, enforce_file_format=True)


def _encode(data: Dataset, syntax: str, frames: list[np.ndarray]) -> None:
    meta = data.file_meta
    compressed = {"rle": RLELossless, "jpeg-ls": JPEGLSLossless, "j2k": JPEG2000Lossless}
    if syntax in compressed:
        data.compress(compressed[syntax], generate_instance_uid=False)
    elif syntax == "jpeg":
        streams = []
        for frame in frames:
            out = io.BytesIO()
            Image.fromarray(frame).save(out, "JPEG", quality=90)
            streams.append(out.getvalue())
        data.PixelData = encapsulate(streams)
        data["PixelData"].VR = "OB"
        meta.TransferSyntaxUID = JPEGBaseline8Bit
        if frames[0].ndim == 3:
            data.PhotometricInterpretation = "YBR_FULL_422"
    else:
        others = {"implicit": ImplicitVRLittleEndian, "big-endian": ExplicitVRBigEndian,
                  "deflated": DeflatedExplicitVRLittleEndian}  # fmt: skip
        meta.TransferSyntaxUID = others.get(syntax, meta.TransferSyntaxUID)
        if syntax == "implicit":
            data["PixelData"].VR = "OW"


def _header_end(data: Bytes) -> int:
    found = data.find(b"\xe0\x7f\x10\x00")
    return found if found > 0 else len(data)


def _some(matches: Iterator[re.Match[bytes]], rng: np.random.Generator) -> int | None:
    places = [m.start() for _, m in zip(range(5000), matches, strict=False)]
    return places[int(rng.integers(len(places)))] if places else None


def _noise(data: Bytes, rng: np.random.Generator, start: int, end: int) -> Bytes:
    for _ in range(int(rng.integers(1, 9))):
        if end > start:
            data[int(rng.integers(start, end))] = int(rng.integers(256))
    return data


def _noise_header(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    return _noise(data, rng, min(132, len(data) - 1), _header_end(data))


def _noise_pixels(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    return _noise(data, rng, _header_end(data), len(data))


def _cut(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    return data[: int(rng.integers(1, len(data)))]


def _length(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    """Another length in an element of the header, 2 or 4 bytes."""
    at = _some(VRS.finditer(bytes(data[: _header_end(data) + 8])), rng)
    if at is None:
        return data
    value = int(rng.choice(LENGTHS)) if rng.random() < 0.7 else int(rng.integers(0, 2 * len(data)))
    if bytes(data[at : at + 2]) in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        data[at + 4 : at + 8] = struct.pack("<L", value)
    else:
        data[at + 2 : at + 4] = struct.pack("<H", value & 0xFFFF)
    return data


def _item(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    """Another length of an item or fragment, another tag, or none at all."""
    at = _some(ITEMS.finditer(bytes(data)), rng)
    if at is None:
        return data
    choice = rng.random()
    if choice < 0.6:
        data[at + 4 : at + 8] = struct.pack("<L", int(rng.choice(LENGTHS)))
    elif choice < 0.8:
        data[at + 2] = int(rng.choice((0x00, 0x0D, 0xDD)))
    else:
        del data[at : at + 8]
    return data


def _offsets(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    """An offset table of other values, as long as there is room or longer."""
    at = data.find(b"\xfe\xff\x00\xe0", _header_end(data))
    if at < 0:
        return data
    length = struct.unpack("<L", data[at + 4 : at + 8].ljust(4, b"\0"))[0]
    count = int(rng.integers(1, 6))
    table = struct.pack(f"<{count}L", *(int(v) for v in rng.integers(0, 2**32, count)))
    data[at + 4 : at + 8 + min(length, 64)] = struct.pack("<L", len(table)) + table
    return data


def _marker(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    """Other bytes behind a marker of a code stream: sizes, tables, components."""
    start = _header_end(data)
    at = _some(MARKERS.finditer(bytes(data[start:])), rng)
    if at is not None:
        at += start + 2
        width = int(rng.integers(1, 12))
        data[at : at + width] = bytes(rng.choice((0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))), width).tolist())
    return data


def _value(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    """An impossible value in a well-formed file, by way of a parser."""
    if DEFLATED.encode() in data[:1024]:  # it may be a bomb by now, and this process has no limits
        return _noise(data, rng, 0, len(data))
    try:
        parsed = dcmread(io.BytesIO(bytes(data)))
        name = str(rng.choice(list(VALUES)))
        if rng.random() < 0.15:
            delattr(parsed, name)
        else:
            setattr(parsed, name, VALUES[name][int(rng.integers(len(VALUES[name])))])
        out = io.BytesIO()
        dcmwrite(out, parsed)
    except Exception:  # already broken: another mutation will do
        return _noise(data, rng, 0, len(data))
    return Bytes(out.getvalue())


def _nest(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    at = _header_end(data)
    data[at:at] = NESTED * int(rng.choice((3, 33, 500, 20000)))
    return data


def _preamble(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    head = (b"MZ\x90\0", b"\x7fELF\x02\x01", b"#!/bin/sh\n", b"II*\0", b"\xca\xfe\xba\xbe")[int(rng.integers(5))]
    data[: len(head)] = head
    return data


def _syntax(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    """Another transfer syntax than the pixels have."""
    at = data.find(b"\x02\x00\x10\x00UI")
    if at >= 0:
        length = struct.unpack("<H", data[at + 6 : at + 8])[0]
        uid = UIDS[int(rng.integers(len(UIDS)))]
        uid += b"\0" * (len(uid) % 2)
        data[at + 6 : at + 8 + length] = struct.pack("<H", len(uid)) + uid
    return data


def _splice(data: Bytes, rng: np.random.Generator, bases: list[bytes]) -> Bytes:
    """The header of one file with the pixels of another."""
    other = Bytes(bases[int(rng.integers(len(bases)))])
    return data[: _header_end(data)] + other[_header_end(other) :]


def _repeat(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    start = int(rng.integers(132, max(133, len(data))))
    piece = data[start : start + int(rng.integers(1, 4000))]
    data[start:start] = piece * int(rng.integers(1, 9))
    return data


@cache
def _bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(mebibytes)) + packer.flush()


def _inflate(data: Bytes, rng: np.random.Generator, _: list[bytes]) -> Bytes:
    """A deflated data set that inflates to up to a gibibyte, behind the meta of a deflated file."""
    data = _syntax(data, rng, [])
    at = data.find(b"\x08\x00\x05\x00")
    whole = data[: at if at > 0 else _header_end(data)] + _bomb(int(rng.choice((1, 50, 200, 1000))))
    old = whole.find(b"\x02\x00\x10\x00UI")
    if old >= 0:
        length = struct.unpack("<H", whole[old + 6 : old + 8])[0]
        whole[old + 6 : old + 8 + length] = struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99"
    return whole


MUTATIONS: dict[str, Callable[[Bytes, np.random.Generator, list[bytes]], Bytes]] = {
    "noise-header": _noise_header, "noise-pixels": _noise_pixels, "cut": _cut, "length": _length, "item": _item,
    "offsets": _offsets, "marker": _marker, "value": _value, "nest": _nest, "preamble": _preamble, "syntax": _syntax,
    "splice": _splice, "repeat": _repeat, "bomb": _inflate,
}  # fmt: skip
# Damage behind the header's checks three times as often: decoders are where memory errors live.
CHOICES = (*MUTATIONS, *("noise-pixels", "marker", "value") * 2)
