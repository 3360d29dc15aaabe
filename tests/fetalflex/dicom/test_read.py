import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from fetalflex.dicom.read import Frame, Limits, frame_numbers, read_frames
from fetalflex.dicom.sandbox import Sandbox
from fetalflex.errors import QuarantineError, Reason
from fetalflex.ingest import worker
from tests.fetalflex.dicom.samples import changed, deflated, real_data, screen, write_image

LIMITS = Limits()


def frames(path: Path, limits: Limits = LIMITS) -> list[Frame]:
    return list(read_frames(path, limits))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def reason(path: Path, limits: Limits = LIMITS) -> Reason:
    with pytest.raises(QuarantineError) as caught:
        frames(path, limits)
    return caught.value.reason


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.dcm")
    return tmp_path / "a.dcm"


@pytest.mark.parametrize("syntax", ["explicit", "rle"])
def test_reads_every_grey_level_back(tmp_path: Path, syntax: str) -> None:
    write_image(tmp_path / "a.dcm", syntax=syntax)
    (frame,) = frames(tmp_path / "a.dcm")
    np.testing.assert_array_equal(frame.grey, screen())
    assert frame.coloured is None


def test_only_a_worker_decodes_with_gdcm(tmp_path: Path, sandbox: Sandbox) -> None:
    write_image(tmp_path / "a.dcm", syntax="jpeg-lossless")
    assert reason(tmp_path / "a.dcm") == Reason.UNSUPPORTED_TRANSFER_SYNTAX
    ((_, (grey,)),) = sandbox.run(worker.decoded, path=str(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(grey, screen())


def test_colour_becomes_luma_and_tells_where_it_is_coloured(tmp_path: Path) -> None:
    pixels = np.repeat(screen()[..., None], 3, axis=2)
    pixels[30:60, 40:80] = (200, 20, 20)
    write_image(tmp_path / "a.dcm", pixels=pixels)
    (frame,) = frames(tmp_path / "a.dcm")
    assert frame.grey[40, 50] == round(0.299 * 200 + 0.701 * 20)
    np.testing.assert_array_equal(frame.grey[70:], screen()[70:])
    assert frame.coloured is not None
    assert int(frame.coloured.sum()) == 30 * 40


def test_inverts_monochrome1(image: Path) -> None:
    (frame,) = frames(changed(image, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(frame.grey, 255 - screen())


def test_applies_rescale_and_the_first_window(image: Path) -> None:
    (frame,) = frames(changed(image, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=[100, 5], WindowWidth=[101, 5]))
    expected = ((screen().astype(float) * 2 - 10 - 99.5) / 100 + 0.5).clip(0, 1) * 255
    np.testing.assert_allclose(frame.grey, expected, atol=0.51)


def test_reads_twelve_bits_to_eight(image: Path) -> None:
    wide = screen().astype(np.uint16) * 16
    path = changed(image, BitsAllocated=16, BitsStored=12, HighBit=11, PixelData=wide.tobytes())
    (frame,) = frames(path)
    np.testing.assert_allclose(frame.grey, screen(), atol=1)


def test_of_a_clip_the_first_and_the_middle_frame_are_read(image: Path) -> None:
    clip = np.stack([np.full((120, 160), 10 * i, np.uint8) for i in range(5)])
    path = changed(image, NumberOfFrames=5, PixelData=clip.tobytes(), SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1")
    assert [(f.number, int(f.grey[0, 0])) for f in frames(path)] == [(0, 0), (2, 20)]
    assert frame_numbers(1, 2) == [0]
    assert frame_numbers(30, 3) == [0, 10, 20]


def test_names_why_a_file_is_no_image(image: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Jane Doe")
    assert reason(tmp_path / "notes.txt") == Reason.NOT_DICOM
    (tmp_path / "head.dcm").write_bytes(image.read_bytes()[:140])
    assert reason(tmp_path / "head.dcm") in (Reason.NOT_DICOM, Reason.TRUNCATED, Reason.UNSUPPORTED_TRANSFER_SYNTAX)
    (tmp_path / "cut.dcm").write_bytes(image.read_bytes()[:-9000])
    assert reason(tmp_path / "cut.dcm") == Reason.TRUNCATED


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"SOPClassUID": CTImageStorage}, Reason.NOT_ULTRASOUND),
        ({"Rows": 0}, Reason.BAD_DIMENSIONS),
        ({"Rows": 65535, "Columns": 65535}, Reason.TOO_LARGE),
        ({"BitsAllocated": 7}, Reason.BAD_DIMENSIONS),
        ({"PixelData": b""}, Reason.NO_PIXELS),
        ({"PhotometricInterpretation": None}, Reason.DECODE_FAILED),
        ({"PhotometricInterpretation": "HSV"}, Reason.DECODE_FAILED),
        ({"Rows": None, "Columns": None}, Reason.NO_PIXELS),
    ],
)
def test_names_what_is_wrong_with_an_image(image: Path, values: dict[str, object], expected: Reason) -> None:
    assert reason(changed(image, **values)) == expected


def test_refuses_a_file_over_the_limit_before_reading_it(image: Path) -> None:
    assert reason(image, replace(LIMITS, max_bytes=1000)) == Reason.TOO_LARGE


def test_reads_deflated_files(image: Path) -> None:
    (frame,) = frames(deflated(image))
    np.testing.assert_array_equal(frame.grey, screen())


def test_every_real_ultrasound_file_is_decoded_or_has_a_reason(sandbox: Sandbox) -> None:
    folder = real_data("us_dicom")
    with (folder / "MANIFEST.csv").open() as stream:
        listed = list(csv.DictReader(stream))
    assert listed
    table = []
    for row in listed:
        try:
            read = [pixels for _, (pixels,) in sandbox.run(worker.decoded, path=str(folder / row["file"]))]
        except QuarantineError as error:
            table.append((row["file"], error.reason.value))
            continue
        table.append((row["file"], f"{len(read)} frames, mean {read[0].mean():.1f}"))
        stated = re.search(r"min\d+ max\d+ mean([\d.]+)", row["decode"])
        if row["pi"].startswith("MONOCHROME") and stated:
            assert abs(float(read[0].mean()) - float(stated[1])) < 0.2, row["file"]
    print(*table, sep="\n")
    assert sum("frames" in outcome for _, outcome in table) >= 28
