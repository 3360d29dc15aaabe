"""Flow, renders and traces are set aside; tints, calipers and texts are not taken for them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, pixel_array
from scipy import ndimage

from fetalflex.dicom.read import quiet
from fetalflex.errors import QuarantineError, Reason
from fetalflex.ingest.kinds import announces_flow, check_header, check_pixels, flow_share, image_kind, is_render
from tests.fetalflex.ingest.pictures import head

SEPIA, AMBER, ICE = (1.0, 0.82, 0.58), (1.0, 0.72, 0.35), (0.7, 0.88, 1.0)
FLOW_FILES = ("0020.DCM", "IM00001.fragmented_no_bot_jpeg_baseline.50.dcm", "US-PAL-8-10x-echo.dcm",
              "US-RGB-8-epicard.dcm", "US1_UNCI.dcm", "US1_RLE.dcm", "color-px.dcm")  # fmt: skip
TISSUE_FILES = ("DIRW0007.dcm", "US-YBR_FULL_422-EVRLE.dcm", "YBR_422.dcm", "gdcm-US-ALOKA-16_big.dcm",
                "examples_ybr_color.dcm", "840.113543.6.6.1.1.2.2415947926921624359.201235357587280.dcm")  # fmt: skip


def _tinted(grey: np.ndarray, tint: tuple[float, float, float]) -> np.ndarray:
    return (grey[..., None] * np.array(tint)).round().astype(np.uint8)


def _tissue(tint: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    return _tinted(head(1, 320, 400), tint)


def _flow(pixels: np.ndarray, colours: list[tuple[int, int, int]], side: int = 40) -> np.ndarray:
    """Paint vessels, one colour after the other, with speckle of their own."""
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for i, colour in enumerate(colours):
        x, y = 120 + 60 * i, 150
        draw.ellipse((x, y, x + side, y + side // 2), fill=colour)
    return np.asarray(picture)


def _render() -> np.ndarray:
    """A lit, bumpy skin."""
    random = np.random.default_rng(0)
    height = ndimage.gaussian_filter(random.normal(size=(320, 400)), 14) * 110
    slope_y, slope_x = np.gradient(height)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    shade = (normal @ np.array([0.5, 0.3, 0.8])).clip(0.05, 1) * 230 + random.normal(size=height.shape) * 2
    return _tinted(shade.clip(0, 255), SEPIA)


def _reason(region: np.ndarray, *, announced: bool = False) -> Reason | None:
    try:
        check_pixels(region, flow_announced=announced)
    except QuarantineError as error:
        return error.reason
    return None


@pytest.mark.parametrize("tint", [(1, 1, 1), SEPIA, AMBER, ICE])
def test_a_tinted_grey_map_is_no_flow_and_no_render(tint: tuple[float, float, float]) -> None:
    assert _reason(_tissue(tint)) is None
    assert flow_share(_tissue(tint)) == 0


@pytest.mark.parametrize("tint", [(1, 1, 1), SEPIA, ICE])
@pytest.mark.parametrize(
    "colours",
    [
        pytest.param([(210, 30, 20), (30, 60, 220)], id="red and blue"),
        pytest.param([(240, 140, 20)] * 3, id="power in orange"),
        pytest.param([(250, 220, 60), (30, 200, 180)], id="variance"),
    ],
)
def test_flow_is_found_on_any_grey_map(tint: tuple[float, float, float], colours: list[tuple[int, int, int]]) -> None:
    assert _reason(_flow(_tissue(tint), colours)) is Reason.COLOUR_DOPPLER


def test_power_doppler_that_fills_most_of_the_region_is_found() -> None:
    pixels = _tissue()
    pixels[40:300, 60:380] = _tinted(head(5, 260, 320).astype(np.float32).clip(60, 255), (1.0, 0.6, 0.1))
    assert _reason(pixels) is Reason.COLOUR_DOPPLER


@pytest.mark.parametrize("colour", [(255, 255, 0), (0, 255, 0), (0, 255, 255), (255, 0, 255)])
def test_coloured_calipers_texts_traces_and_boxes_are_no_flow(colour: tuple[int, int, int]) -> None:
    picture = Image.fromarray(_tissue())
    draw = ImageDraw.Draw(picture)
    for x, y in ((80, 90), (300, 220), (150, 250), (260, 60)):
        draw.line((x - 8, y, x + 8, y), fill=colour, width=2)
        draw.line((x, y - 8, x, y + 8), fill=colour, width=2)
    for x in range(80, 300, 9):
        draw.line((x, 90 + (x - 80) // 2, x + 4, 92 + (x - 80) // 2), fill=colour, width=2)
    draw.text((10, 280), "BPD 87.2 mm  GA 35w1d", fill=colour)
    draw.line([(x, 300 - 12 * (x % 60 == 30)) for x in range(0, 400, 5)], fill=colour, width=2)
    draw.polygon([(120, 60), (280, 60), (320, 240), (90, 240)], outline=colour, width=2)
    assert _reason(np.asarray(picture)) is None


def test_a_little_flow_counts_where_the_header_speaks_of_it() -> None:
    little = _flow(_tissue(), [(220, 30, 20)], side=30)
    assert _reason(little) is None
    assert _reason(little, announced=True) is Reason.COLOUR_DOPPLER


def test_a_rendered_skin_is_set_aside_and_grey_images_are_not_looked_at() -> None:
    assert is_render(_render())
    assert _reason(_render()) is Reason.RENDERED_3D
    assert _reason(_render()[..., 0]) is None
    assert not is_render(np.zeros((100, 100, 3), np.uint8))


def _header(*regions: tuple[int, int], kind: str | None = None) -> Dataset:
    header = Dataset()
    if kind is not None:
        header.ImageType = ["ORIGINAL", "PRIMARY", "OBSTETRICAL", kind]
    header.SequenceOfUltrasoundRegions = []
    for spatial, data in regions:
        item = Dataset()
        item.RegionSpatialFormat, item.RegionDataType = spatial, data
        header.SequenceOfUltrasoundRegions.append(item)
    return header


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (_header((2, 1)), Reason.NOT_TWO_DIMENSIONAL),
        (_header((3, 3)), Reason.NOT_TWO_DIMENSIONAL),
        (_header((3, 4), (5, 0)), Reason.NOT_TWO_DIMENSIONAL),
        (_header((4, 10)), Reason.NOT_TWO_DIMENSIONAL),
        (_header((1, 13)), Reason.NOT_TWO_DIMENSIONAL),
        (_header(kind="0002"), Reason.NOT_TWO_DIMENSIONAL),
        (_header(kind="0028"), Reason.NOT_TWO_DIMENSIONAL),
        (_header((1, 1), kind="0041"), Reason.RENDERED_3D),
        (_header(kind="0040"), Reason.RENDERED_3D),
        (_header((1, 1)), None),
        (_header((1, 1), (4, 10)), None),  # tissue with an ECG below
        (_header((1, 2), (3, 3)), None),  # duplex: the tissue's region is cut out
        (_header((0, 0), (1, 1)), None),
        (_header((0, 13)), None),  # a grey bar says nothing of the rest
        (_header(kind="0009"), None),
        (_header(kind="0000"), None),
        (_header(kind="ZZZZ"), None),
        (Dataset(), None),
    ],
)
def test_the_header_tells_what_is_no_two_dimensional_tissue(header: Dataset, reason: Reason | None) -> None:
    if reason is None:
        check_header(header)
        return
    with pytest.raises(QuarantineError) as caught:
        check_header(header)
    assert caught.value.reason is reason


def test_flow_is_announced_by_type_or_region() -> None:
    assert announces_flow(_header(kind="0011"))
    assert announces_flow(_header((1, 2)))
    assert not announces_flow(_header((1, 1), kind="0001"))
    assert image_kind(_header(kind="0100")) == 0x100
    single = Dataset()
    single.ImageType = "ORIGINAL"
    assert image_kind(single) == 0


def _middle_frame(path: Path) -> np.ndarray:
    with quiet():  # real headers, real faults
        return _decoded(path)


def _decoded(path: Path) -> np.ndarray:
    header = dcmread(path)
    frames = int(header.get("NumberOfFrames", 1) or 1)
    pixels = pixel_array(path, index=frames // 2 if frames > 1 else 0)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)
        pixels = (pixels >> 8 if int(pixels.max()) > 255 else pixels).astype(np.uint8)
    return pixels


@pytest.mark.parametrize(
    ("name", "flow"), [*((n, True) for n in FLOW_FILES), *((n, False) for n in TISSUE_FILES)]
)  # fmt: skip
def test_real_colour_frames_are_judged_right(real_data: Path, name: str, flow: bool) -> None:
    folder = real_data / "us_dicom"
    if not (folder / name).is_file():
        pytest.skip(f"{name} is not in this us_dicom")
    with (folder / "MANIFEST.csv").open() as stream:
        assert any(row["file"] == name for row in csv.DictReader(stream))
    expected = Reason.COLOUR_DOPPLER if flow else None
    assert _reason(_middle_frame(folder / name)) is expected
