import numpy as np

from fetalflex.deid.calipers import find_calipers


def speckle() -> np.ndarray:
    return np.random.default_rng(2).integers(20, 45, (200, 240)).astype(np.uint8)


def test_finds_a_cross_where_it_is() -> None:
    picture = speckle()
    picture[100, 115:126] = picture[95:106, 120] = 230
    found = find_calipers(picture)
    assert found
    assert all(x0 < 120 < x1 and y0 < 100 < y1 for x0, y0, x1, y1 in found)


def test_finds_a_dotted_line_from_end_to_end() -> None:
    picture = speckle()
    for step in range(12):
        picture[60 + 3 * step : 62 + 3 * step, 40 + 8 * step : 42 + 8 * step] = 240
    boxes = find_calipers(picture)
    assert min(b[0] for b in boxes) <= 40
    assert max(b[2] for b in boxes) >= 128


def test_finds_none_in_speckle() -> None:
    assert find_calipers(speckle()) == ()
