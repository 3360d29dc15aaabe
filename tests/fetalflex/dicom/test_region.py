import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from fetalflex.dicom.region import Calibration, choose_crop, find_region, fit_geometry, read_calibration
from fetalflex.errors import QuarantineError, Reason
from tests.fetalflex.dicom.samples import head_mask, screen


def region(x0: int, y0: int, x1: int, y1: int, delta: float = 0.02, kind: int = 1, units: int = 3) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 1, kind
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta, -delta / 2
    return item


def header(*regions: Dataset, spacing: list[float] | None = None) -> Dataset:
    data = Dataset()
    data.Rows, data.Columns = 120, 160
    if regions:
        data.SequenceOfUltrasoundRegions = list(regions)
    if spacing:
        data.PixelSpacing = spacing
    return data


def test_takes_the_largest_tissue_region_and_its_spacing() -> None:
    found = read_calibration(header(region(0, 0, 20, 20, 9), region(10, 10, 150, 110), region(0, 0, 159, 119, kind=10)))
    assert found.region == (10, 10, 151, 111)
    assert found.spacing_mm == pytest.approx((0.1, 0.2))


def test_pixel_spacing_counts_where_the_region_has_no_units() -> None:
    assert read_calibration(header(region(0, 0, 99, 99, units=0), spacing=[0.3, 0.4])).spacing_mm == (0.3, 0.4)
    assert read_calibration(header(region(0, 0, 99, 99, units=0))).spacing_mm is None
    assert read_calibration(header()) == Calibration(None, None)


def test_a_region_beyond_the_image_says_nothing() -> None:
    assert read_calibration(header(region(20, 20, 400, 300), spacing=[0.3, 0.3])) == Calibration(None, None)


def test_finds_the_bright_area_and_leaves_a_line_of_text_out() -> None:
    pixels = screen(shape=(240, 320))
    pixels[4:9:2, 60:200:3] = 255
    x0, y0, x1, y1 = find_region(pixels)
    assert abs(x0 - 30) <= 6
    assert 10 < y0 <= 20
    assert abs(x1 - 310) <= 6
    assert abs(y1 - 230) <= 6


def test_a_dark_screen_has_no_region_unless_the_header_names_the_whole() -> None:
    dark = np.zeros((120, 160), np.uint8)
    with pytest.raises(QuarantineError) as caught:
        choose_crop(Calibration(None, None), dark)
    assert caught.value.reason == Reason.NO_ULTRASOUND_REGION
    assert choose_crop(Calibration((0, 0, 160, 120), None), dark) == (0, 0, 160, 120)
    assert choose_crop(Calibration((1, 2, 90, 80), None), screen()) == (1, 2, 90, 80)


def test_makes_pixels_square() -> None:
    geometry = fit_geometry((0, 0, 640, 640), (0.10, 0.15), 2000)
    assert geometry.size == (640, 960)
    assert geometry.spacing_mm == pytest.approx(0.10)


def test_unknown_spacing_stays_unknown() -> None:
    assert fit_geometry((0, 0, 640, 320), None, 64).spacing_mm is None


@given(
    st.integers(64, 900), st.integers(64, 900), st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.integers(64, 512)
)  # fmt: skip
def test_keeps_the_extent_in_millimetres(width: int, height: int, row: float, column: float, longest: int) -> None:
    geometry = fit_geometry((0, 0, width, height), (row, column), longest)
    assert max(geometry.size) <= longest
    assert geometry.spacing_mm is not None
    tolerance = 0.51 * geometry.spacing_mm + 0.005 * max(width * column, height * row)
    assert geometry.size[1] * geometry.spacing_mm == pytest.approx(width * column, abs=tolerance)
    assert geometry.size[0] * geometry.spacing_mm == pytest.approx(height * row, abs=tolerance)


def test_image_mask_and_box_stay_aligned() -> None:
    mask = head_mask()
    geometry = fit_geometry((30, 20, 150, 110), (0.2, 0.3), 100)
    frame_mask = geometry.mask(mask)
    image = geometry.image(mask.astype(np.uint8) * 255)
    np.testing.assert_array_equal(frame_mask, image > 127)
    rows, columns = np.nonzero(mask)
    box = geometry.box((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    assert box is not None
    rows, columns = np.nonzero(frame_mask)
    np.testing.assert_allclose(box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=1.01)
    assert geometry.box((0, 0, 30, 20)) is None
