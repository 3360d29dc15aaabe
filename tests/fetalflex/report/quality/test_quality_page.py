import dataclasses
import re

import numpy as np
import pytest

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.quality.plots import feature_map, histogram
from fetalflex.quality.summary import Parts, quality_report, simple
from fetalflex.report.page import NearestView
from fetalflex.report.quality.page import QualityContext, Ranking, ScoredView, ends_and_middle, render_quality
from tests.fetalflex.quality.figures import CONTROL, FIGURES, PRIVACY

HOSTILE = '<script>alert("x")</script>'
GREY = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
MAPS = np.zeros((len(STRUCTURE_NAMES), 16, 16), np.float32)
MAPS[0, 4:12, 4:12] = 1
VIEWS = [
    ScoredView(GREY, MAPS, f"image-{i}", ("femur", "harbour"), f"0.{i}", HOSTILE if i == 1 else "") for i in range(3)
]
GATE = {
    "passed": False,
    "criteria": [{"metric": "kid", "value": 0.3, "bound": "<= 0.1", "passed": False, "reason": "a real reason",
                  "would_pass_if": "kid falls"}],
    "images": {"accepted": ["a"], "rejected": [{"image_id": "b", "reason": "text"}]},
}  # fmt: skip
SIZES = [simple("size_error.hc", 4.0, (3.0, 5.0), 20, 1.5)]
FULL = QualityContext(
    "demo", quality_report(Parts(("inception",), FIGURES, CONTROL, (), PRIVACY, SIZES)), GATE,
    [Ranking("Control", "Dice", VIEWS[:1], VIEWS[1:2], VIEWS[2:], asked=True)],
    [NearestView(GREY, GREY // 2, "b" * 32, 0.97, 0.01, True)],
    {"look_brightness": histogram([("held_out", np.arange(9.0)), ("synthetic", np.arange(5.0))]),
     "features": feature_map(np.random.default_rng(1).normal(size=(9, 4)), np.zeros((3, 4))),
     "image_dice": histogram([("synthetic", np.linspace(0, 1, 9))]), "look_contrast": []},
)  # fmt: skip


@pytest.fixture(scope="module")
def page():
    return render_quality(FULL)


def test_shows_every_part(page):
    for part in ("Not passed", "kid falls", "Best", "Median", "Worst", "0.2", "Brightness", "Dice of each image",
                 "Sizes: median error", "By center", "fewer images than features", "near-copy", "0.970",
                 "strangers flagged, by alteration", "features of texture"):  # fmt: skip
        assert part in page
    assert "By plane" not in page


def test_is_one_file_and_text_from_outside_is_escaped(page):
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert page == render_quality(FULL)


def test_no_simulated_image_is_called_real(page):
    simulated = render_quality(dataclasses.replace(FULL, simulated=True))
    words = re.sub(r"base64,[^\"]+", "", simulated).replace("a real reason", "", 1)  # as params.yaml says it
    assert not re.search(r"\breal\b", words, re.IGNORECASE)
    assert re.findall(r"base64,[^\"]+", simulated) == re.findall(r"base64,[^\"]+", page)
    assert "real images" in page


def test_says_what_is_missing():
    empty = render_quality(QualityContext("demo", quality_report(Parts(("inception",)))))
    for part in ("Not decided", "No verdict", "No images", "No distributions", "No control figures", "Not measured"):
        assert part in empty


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 0, 0)), (3, (1, 1, 1)), (9, (3, 3, 3)), (100, (4, 4, 4))])
def test_the_ends_and_the_middle_of_a_ranking_never_overlap(count, expected):
    best, median, worst = ends_and_middle(4, list(range(count)))
    assert tuple(map(len, (best, median, worst))) == expected
    assert len({*best, *median, *worst}) == sum(expected)
    assert best[0] == 0
    assert not worst or worst[0] == count - 1
