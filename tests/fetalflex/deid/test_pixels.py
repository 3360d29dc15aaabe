import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from fetalflex.deid.pixels import PixelCleaner
from fetalflex.deid.text import Found
from fetalflex.errors import QuarantineError, Reason
from fetalflex.phantom.acoustics import Picture, image_scene
from fetalflex.phantom.devices import device
from fetalflex.phantom.scene import make_scene
from tests.fetalflex.dicom.samples import screen

REGION_TAGS = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")


def header_of(shape: tuple[int, ...], *regions: tuple[int, int, int, int]) -> Dataset:
    header = Dataset()
    header.Rows, header.Columns = shape[:2]
    header.SequenceOfUltrasoundRegions = []
    for x0, y0, x1, y1 in regions:
        item = Dataset()
        item.RegionSpatialFormat = item.RegionDataType = 1
        for name, value in zip(REGION_TAGS, (x0, y0, x1 - 1, y1 - 1), strict=True):
            setattr(item, name, value)
        header.SequenceOfUltrasoundRegions.append(item)
    return header


def draw(pixels: np.ndarray, where: tuple[int, int], text: str, fill: object = 255) -> np.ndarray:
    canvas = Image.fromarray(pixels)
    ImageDraw.Draw(canvas).text(where, text, fill=fill, font=ImageFont.load_default(18))
    return np.asarray(canvas)


@pytest.fixture(scope="module")
def picture() -> Picture:
    rng = np.random.default_rng(5)
    return image_scene(make_scene("abdomen", 25.0, rng), device("curved-a"), rng)


@pytest.fixture(scope="module")
def header(picture: Picture) -> Dataset:
    return header_of(picture.pixels.shape, picture.region)


def test_blanks_all_outside_of_the_regions(picture: Picture, header: Dataset) -> None:
    planted = draw(picture.pixels, (10, 4), "HAUGLAND, Ingrid")
    clean = PixelCleaner(header, ocr=False).clean(planted).pixels
    x0, y0, x1, y1 = picture.region
    outside = np.ones(clean.shape, bool)
    outside[y0:y1, x0:x1] = False
    assert not clean[outside].any()
    assert (clean == picture.pixels)[picture.sector].all()


def test_keeps_every_two_dimensional_region(picture: Picture) -> None:
    width = picture.pixels.shape[1]
    two = np.concatenate([picture.pixels, picture.pixels], axis=1)
    x0, y0, x1, y1 = picture.region
    header = header_of(two.shape, picture.region, (x0 + width, y0, x1 + width, y1))
    clean = PixelCleaner(header, ocr=False).clean(two).pixels
    assert (clean == two)[np.concatenate([picture.sector, picture.sector], axis=1)].all()


@pytest.mark.parametrize("regions", [[], [(0, 0, 2000, 1000)], None])
def test_finds_the_sector_where_regions_are_missing_stale_or_the_screen(picture: Picture, regions: list | None) -> None:
    whole = [(0, 0, *picture.pixels.shape[::-1])]
    planted = draw(picture.pixels, (10, 4), "HAUGLAND, Ingrid")
    header = header_of(planted.shape, *(whole if regions is None else regions))
    clean = PixelCleaner(header, ocr=False).clean(planted).pixels
    assert not clean[: picture.region[1] - 16].any()
    assert (clean == picture.pixels)[picture.sector].mean() > 0.99


def test_names_the_reason_where_there_is_no_ultrasound() -> None:
    black = np.zeros((200, 300), np.uint8)
    with pytest.raises(QuarantineError) as error:
        PixelCleaner(header_of(black.shape)).clean(black)
    assert error.value.reason is Reason.NO_ULTRASOUND_REGION


@pytest.mark.slow
@pytest.mark.parametrize("fill", [255, (255, 230, 40), (60, 255, 60)])
def test_blanks_and_marks_text_over_speckle(picture: Picture, header: Dataset, fill: object) -> None:
    pixels = picture.pixels if fill == 255 else np.repeat(picture.pixels[..., None], 3, axis=-1)
    planted = draw(pixels, (200, 250), "Solveig 22.11.1975", fill)
    ink = (planted != pixels) if planted.ndim == 2 else (planted != pixels).any(axis=-1)
    cleaned = PixelCleaner(header).clean(planted)
    assert not cleaned.pixels[ink].any()
    ys, xs = np.nonzero(ink)
    assert any(m.kind == "text" and m.box[0] <= xs.min() and m.box[2] > xs.max() and m.box[1] <= ys.min()
               for m in cleaned.marks)  # fmt: skip


@pytest.mark.slow
def test_finds_static_text_once_and_new_text_in_its_frame(picture: Picture, header: Dataset) -> None:
    clip = [draw(picture.pixels, (230, 200), "TAMIMI 271723") for _ in range(4)]
    with_new = draw(clip[2], (250, 330), "ID 5392509")
    cleaner = PixelCleaner(header)
    cleaner.prepare(clip)
    assert not cleaner.clean(clip[1]).pixels[clip[1] != picture.pixels].any()
    assert not cleaner.clean(with_new).pixels[with_new != picture.pixels].any()


def test_tissue_never_vanishes_silently(picture: Picture, header: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = picture.pixels.shape
    monkeypatch.setattr(PixelCleaner, "_find", lambda *_: Found(((0, 0, width, height * 3 // 4),)))
    with pytest.raises(QuarantineError) as error:
        PixelCleaner(header).clean(picture.pixels)
    assert error.value.reason is Reason.COVERED_BY_TEXT


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_noise_with_a_step_is_no_text(seed: int) -> None:
    pixels = np.where(np.arange(160) < 90, screen(seed), screen(seed) // 4).astype(np.uint8)
    plain = PixelCleaner(header_of(pixels.shape), ocr=False).clean(pixels)
    full = PixelCleaner(header_of(pixels.shape)).clean(pixels)
    assert np.count_nonzero(full.pixels) > 0.7 * np.count_nonzero(plain.pixels)
