import re
from html.parser import HTMLParser

import numpy as np
import pytest

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.quality.anomalies import Reading, summarise_anomalies
from fetalflex.quality.control.overlap import Control
from fetalflex.quality.fidelity.measure import Figure
from fetalflex.quality.summary import Parts, quality_report
from fetalflex.report.page import (
    AnomalyView,
    CenterCounts,
    NearestView,
    PairView,
    ReportContext,
    Run,
    SampleView,
    Stage,
    duration,
    number,
    percent,
    render,
    scale,
)
from tests.fetalflex.quality.figures import PRIVACY

FIGURES = (
    Figure("kid", 0.084, 0.071, 0.097, 48, 112, 48, None, None, "inception", warning="small sample"),
    Figure("frechet", 141.0, 133.0, 150.0, 48, 112, 48, 72.0, 48, "inception"),
)
CONTROL = (
    Control("head", 0.91, 0.88, 0.93, 48, float("nan"), float("nan"), float("nan"), 0),
    Control("overall", 0.72, 0.69, 0.75, 48, 0.79, 0.76, 0.81, 40),
)
HOSTILE = '<script>alert("x")</script>'
RUN = Run("demo", "2026-11-23", "2 cores", 437.2, "abc1234", True, "lock 77", "f3" * 32)
GREY = np.full((32, 32), 90, np.uint8)
REGION = np.zeros((32, 32), bool)
REGION[4:20, 4:20] = True
MAPS = np.zeros((len(STRUCTURE_NAMES), 32, 32), np.float32)
MAPS[0, 8:24, 4:28] = 1
ANOMALIES = summarise_anomalies(
        [Reading("ventriculomegaly", f"c{i}", 14.0, 13.0 + i, 0.7, 0.125) for i in range(4)]
        + [Reading("ventriculomegaly", "n", float("nan"), 11.0), Reading("double-bubble", "c", 9.0, float("nan")),
           Reading("absent-csp", "c", 1.0, 1.0)],
        [Reading("ventriculomegaly", "r", 7.0, 7.5)],
        ("head", "lateral-ventricle", "csp"), bootstrap=20, seed=1,
    )  # fmt: skip
QUALITY = quality_report(Parts(("inception",), FIGURES, CONTROL, ANOMALIES, PRIVACY))
BASE = {"model": "resnet", "task": "plane", "metric": "accuracy", "low": 0.7, "high": 0.9, "n": 50, "seeds": 2}
GAIN = ("difference", "difference_low", "difference_high")
DOWNSTREAM = {
    "classes": ["abdomen", "femur"],
    "left_out": [{"plane": "thorax", "test": 3, "patients": 2, "train": 9}],
    "test": {"images": 50, "patients": 20},
    "train": {"real": 100, "synthetic": 48},
    "results": [
        BASE | {"arm": "real", "value": 0.8, "verdict": None} | dict.fromkeys(GAIN),
        BASE | {"arm": "real+synthetic", "value": 0.78, "verdict": "no difference shown"}
        | dict(zip(GAIN, (-0.02, -0.06, 0.02), strict=True)),
    ],
    "confusion": {"resnet": {"real": [[20, 5], [0, 0]], "real+synthetic": [[19, 6], [1, 24]]}},
}  # fmt: skip
GATE = {
    "passed": False,
    "criteria": [
        {"metric": "dice", "value": None, "bound": ">= 0.8", "passed": False}
        | {"reason": "not measured (r)", "would_pass_if": "w"}
    ],
    "images": {"accepted": ["a" * 32], "rejected": [{"image_id": "d" * 32, "reason": "dice 0.4, must be >= 0.5"}]},
}  # fmt: skip
FULL = ReportContext(
    RUN,
    [Stage("ingest@harbour", "Cached"), Stage("train", "Completed", 182.3)],
    [CenterCounts("harbour", f"Title {HOSTILE}", "test_only", {"femur": 3}, {"test": 3}, {f"bad {HOSTILE}": 2}, "CC0",
                  {"image with marks": 7, "copy within one patient": 0})],
    [SampleView(GREY, MAPS, GREY, "femur", f"harbour {HOSTILE}", "a" * 32, 0.9, True),
     SampleView(GREY, MAPS * 0, GREY, "brain", "meadow", "d" * 32, kind="abnormal", told="macrocephaly 3 SD")],
    [PairView(GREY, np.where(REGION, 10, GREY).astype(np.uint8), REGION, "ventriculomegaly 14 mm", MAPS, MAPS * 0,
              "measures 13.2 mm"),
     PairView(GREY, GREY // 2, REGION, "leaking", MAPS * 0, MAPS)],
    [AnomalyView("ventriculomegaly", f"Atrial width {HOSTILE}", 3, 1, "14 mm"),
     AnomalyView("double-bubble", "Two bubbles", 1, 0, "9 mm"), AnomalyView("absent-csp", "None", 1, 0, "there or not"),
     AnomalyView("cleft-lip", "A gap", 1, 0, "3 mm")],
    [NearestView(GREY, GREY, "b" * 32, 0.97, 0.01, True)],
    {"train": {"loss": (range(30), np.linspace(1, 0.1, 30))}, "empty": {}},
    QUALITY, DOWNSTREAM, GATE, [f"Phantom only {HOSTILE}"],
)  # fmt: skip
PAGE = render(FULL)


class Reader(HTMLParser):
    """Collects ids, anchors, sources and unclosed tags."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.anchors, self.sources, self.tags, self.missing_alt = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.anchors += [found["href"]] if tag == "a" else []
        self.sources += [found[k] for k in ("src", "href") if tag in ("img", "image", "link", "script") and k in found]
        if (tag == "img" and not found.get("alt")) or (tag == "svg" and not found.get("aria-label")):
            self.missing_alt.append(self.getpos())


def test_the_page_needs_nothing_from_elsewhere():
    reader = Reader(PAGE)
    assert all(s.startswith("data:image/png;base64,") for s in reader.sources)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", PAGE)
    assert not {"script", "link", "iframe"} & set(reader.tags)
    assert "url(" not in PAGE


def test_text_from_outside_is_escaped():
    assert "<script>" not in PAGE
    assert PAGE.count("&lt;script&gt;") >= 4


def test_every_anchor_has_its_place_and_every_picture_its_text():
    reader = Reader(PAGE)
    assert len(reader.anchors) == 10
    assert {a.removeprefix("#") for a in reader.anchors} == set(reader.ids)
    assert reader.missing_alt == []


@pytest.mark.parametrize(
    "told",
    [
        "abc1234", "with uncommitted changes", "lock 77", "f3" * 32, "demo", "2 cores", "7 min 17 s",
        "Not passed", "0 of 1 criteria reached", "1 accepted, 1 rejected", "0.084", "0.071 to 0.097", "0.72",
        "small sample", "Plane thorax is not part", "no difference shown", "−0.020", "not measured (r)",
        "dice 0.4, must be &gt;= 0.5", "near-copy", "1</b> of 2 images are flagged",
        "Planted training images", "100 held-out images", "test_only", "CC0",
        "outside: identical", "pixels differ outside", "Asked layout: head", "Asked layout: no structure",
        "Phantom only", "7 × image with marks", "macrocephaly 3 SD", "measures 13.2 mm", "stroke-dasharray",
        "<b>100.0 %</b>", "0.50 mm", "12.5 % outside", "the judge has never seen the structure", "not scored",
        "ventriculomegaly: measured severity against asked", "Atrial width &lt;script&gt;",
    ],
)  # fmt: skip
def test_the_page_says(told):
    assert told in PAGE


def test_what_was_not_run_or_failed_is_said_in_its_place():
    stages = [Stage("ingest@a", "Failed", 2.0, f"no usable frame {HOSTILE}"), Stage("sample", "Not run")]
    page = render(ReportContext(RUN, stages))
    assert "1 stage failed." in page
    assert page.count("no usable frame") == 2
    assert page.count("was not run.") == 9
    assert "Not decided" in page
    assert "<script>" not in page


def test_a_stage_that_ran_without_result_is_not_called_missing():
    assert "ran, and gave nothing to show here" in render(ReportContext(RUN, [Stage("train", "Cached")]))


def test_reports_without_parts_do_not_break_the_page():
    empty = quality_report(Parts(("inception",)))
    gate = {"passed": True, "criteria": [], "images": {"accepted": [], "rejected": []}}
    page = render(ReportContext(RUN, quality=empty, downstream={}, gate=gate))
    assert "Passed" in page
    assert "No criterion is set" in page


def test_the_page_depends_on_its_context_alone():
    assert render(FULL) == PAGE


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.14, "2.1 s"), (59.2, "59 s"), (125, "2 min 05 s"), (3599.7, "1 h 00 min"), (7380, "2 h 03 min")],
)
def test_durations_are_told_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_figures_have_a_fitting_number_of_digits():
    assert [number(v) for v in (None, float("nan"), 0.08412, 12.34, 141.2, -0.02, -0.0001)] == [
        "–", "–", "0.084", "12.3", "141", "−0.020", "0.000",
    ]  # fmt: skip
    assert [percent(v) for v in (None, 0.0213)] == ["–", "2.1 %"]
    assert [scale(v, 2, -2) for v in (None, -3, 0, 9)] == ["0%", "0.00%", "50.00%", "100.00%"]
