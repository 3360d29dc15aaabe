"""The marks of calipers as data, and how they are drawn out."""

import numpy as np

from benchmarks.caliper_marks import read_marks, trace


def test_every_marked_image_has_crosses_lines_ellipses_or_none() -> None:
    marks = read_marks()
    assert len(marks) == 61
    sizes = {"none": 0, "cross": 2, "line": 4, "ellipse": 6}
    assert all(len(numbers) == sizes[kind] for found in marks.values() for kind, numbers in found)


def test_an_ellipse_passes_through_its_three_points() -> None:
    points = trace("ellipse", [10, 50, 110, 50, 60, 80])
    for x, y in ((10, 50), (110, 50), (60, 80), (60, 20)):
        assert np.hypot(*(points - [x, y]).T).min() < 4
