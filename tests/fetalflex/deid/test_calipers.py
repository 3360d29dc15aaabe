import cv2
import numpy as np
import pytest

from fetalflex.deid.calipers import find_calipers
from fetalflex.deid.text import find_drawn
from fetalflex.phantom.acoustics import image_scene
from fetalflex.phantom.devices import device
from fetalflex.phantom.scene import make_scene
from tests.fetalflex.deid.test_motion import moving_speckle
from tests.fetalflex.deid.test_overlay import left_of, write


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


def test_marks_the_dots_and_not_the_tissue_beside_them() -> None:
    picture = speckle()
    for step in range(12):
        picture[20 + 10 * step : 22 + 10 * step, 40 + 10 * step : 42 + 10 * step] = 240
    covered = np.zeros(picture.shape, bool)
    for x0, y0, x1, y1 in find_calipers(picture):
        covered[y0:y1, x0:x1] = True
    assert covered.mean() < 0.02
    assert covered[picture == 240].all()


def test_finds_dark_dots_on_bright_tissue() -> None:
    picture = speckle() + np.uint8(140)
    for step in range(10):
        picture[90:92, 40 + 9 * step : 42 + 9 * step] = 10
    assert len(find_calipers(picture)) == 10


@pytest.mark.parametrize("name", ["curved-a", "curved-b"])
@pytest.mark.parametrize("plane", ["transventricular", "abdomen", "four-chamber", "femur"])
def test_finds_none_in_simulated_tissue_nor_at_the_sectors_edge(plane: str, name: str) -> None:
    rng = np.random.default_rng(7)
    picture = image_scene(make_scene(plane, 24.0, rng), device(name), rng).pixels
    assert find_calipers(picture) == ()


def test_finds_an_ellipse_of_single_pixels_all_around() -> None:
    picture = speckle()
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    ys, xs = (100 + 70 * np.sin(angles)).round().astype(int), (120 + 90 * np.cos(angles)).round().astype(int)
    picture[ys, xs] = 235
    boxes = find_calipers(picture)
    found = [any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes) for x, y in zip(xs, ys, strict=True)]
    assert sum(found) >= 28


COLOURS = {"yellow": (255, 230, 40), "green": (60, 255, 60), "cyan": (40, 230, 255), "one grey": (64, 64, 64)}


# A diagonal of one pixel's width has no run of its level: in grey it is found where it is bright, by `find_calipers`.
@pytest.mark.parametrize(
    ("colour", "diagonal"), [(c, d) for c in COLOURS.values() for d in (False, True) if not (d and c == (64, 64, 64))]
)
def test_crosses_and_dots_of_one_colour_are_calipers_and_no_text(colour: tuple[int, ...], diagonal: bool) -> None:
    (grey,) = moving_speckle(1)
    ink = np.zeros(grey.shape, np.uint8)
    for x, y in ((90, 90), (210, 150)):
        ends = ((x - 5, y - 5), (x + 5, y + 5)), ((x - 5, y + 5), (x + 5, y - 5))
        for start, end in ends if diagonal else (((x - 5, y), (x + 5, y)), ((x, y - 5), (x, y + 5))):
            cv2.line(ink, start, end, 1, 1 if diagonal else 3)
    for step in range(1, 12):
        ink[90 + 5 * step : 92 + 5 * step, 90 + 10 * step : 92 + 10 * step] = 1
    picture = np.where(ink[..., None] > 0, np.array(colour, np.uint8), grey[..., None])
    texts, calipers = find_drawn(picture[..., 0].copy() if colour == COLOURS["one grey"] else picture)
    centres = {((a + c) / 2, (b + d) / 2) for a, b, c, d in calipers if c - a > 9}
    assert all(any(abs(x - p) < 3 and abs(y - q) < 3 for p, q in centres) for x, y in ((90, 90), (210, 150)))
    covered = np.zeros(grey.shape, bool)
    for x0, y0, x1, y1 in calipers:
        covered[y0:y1, x0:x1] = True
    assert covered[ink > 0].mean() > 0.95
    assert not texts


def test_a_cross_among_letters_is_text() -> None:
    (grey,) = moving_speckle(1)
    written = write(grey, "HAUGLAND + x t 4711", 64, 16)
    assert left_of(grey, written, list(find_drawn(written).texts), 8) == 0
