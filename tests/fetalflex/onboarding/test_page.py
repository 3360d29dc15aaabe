"""The private page: whole in one file, hostile text escaped, everything that a decision needs on it."""

from dataclasses import replace

import numpy as np
import pytest

from fetalflex.onboarding.draft import write_draft
from fetalflex.onboarding.page import Copies, Estimate, Page, render, size
from fetalflex.onboarding.probe import take_census, unmatched_texts
from fetalflex.onboarding.shift import compare, count_planes
from fetalflex.onboarding.trial import Preview, Trial
from tests.fetalflex.onboarding.rows import image

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> {{ 7*7 }}"
FRAME = {"level": 50.0, "spacing_mm": 0.2, "height": 100, "width": 200, "sector": 60.0, "plane": "brain"}


def _page() -> Page:
    before = np.full((60, 80, 3), 9, np.uint8)
    before[2:8, 2:40] = 255
    after = before.copy()
    after[2:8] = 0
    changes = ({"name": "PatientName", "action": "emptied", "before": EVIL, "after": ""},
               {"name": "StudyDescription", "action": "replaced", "before": EVIL, "after": "brain"},
               {"name": "Rows", "action": "kept", "before": "60", "after": "60"})  # fmt: skip
    shown = Preview(0, "GE Voluson E10", "brain", "brain", before, after, 0.4, (("caliper", (1, 2, 9, 8)),), changes)
    lost = Preview(1, "unknown", "", "unknown", reason="decode_failed", detail="frame 0 cannot be decoded")
    rows = [image(), image("b", word="", text=EVIL), {"name": "c", "kind": "rejected", "reason": "bomb", "bytes": 9}]
    census = take_census(rows)
    others = {"south": [FRAME | {"level": 90.0}] * 3}
    return Page(
        center="north", known=False, census=census, new_files=3, read_files=3, refused={"outside_tree": 2},
        unmatched=unmatched_texts(rows), draft=write_draft("north", census).text,
        trial=Trial(2, (shown, lost), (FRAME,), 0, {"decode_failed": 1}, 900),
        duplicates=Copies(1, 2, 3, 4, (("exact", "south", False),)), shifts=compare([FRAME], others),
        planes=count_planes([FRAME], others), estimate=Estimate(12.0, 3_400_000, 5000), phantoms=["phantom-a"],
        draft_path="/w/draft.yaml",
    )  # fmt: skip


@pytest.fixture(scope="module")
def html() -> str:
    return render(_page())


def test_header_text_is_escaped_everywhere(html: str) -> None:
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert "{{ 7*7 }}" in html  # shown, not evaluated


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(html: str) -> None:
    assert "default-src 'none'" in html
    for word in ("http://", "https://", "<link", "javascript:", "@import", "url("):
        assert word not in html
    assert "src=" not in html.replace("&lt;img src=", "")


def test_what_a_decision_needs_is_there(html: str) -> None:
    for part in (
        "shows patients' identifiers", "PatientName", "bomb", "outside_tree", "40.0 % blanked", "caliper", "south",
        "simulated centers (phantom-a)", "3.4 MB", "12 s", "Fewer than 20 frames", "licence is not stated",
        "decode_failed", "another patient number", "What to do",
    ):  # fmt: skip
        assert part in html, part


def test_a_center_of_which_nothing_is_usable_says_so() -> None:
    empty = replace(_page(), trial=Trial(0), shifts=compare([], {}), planes={}, estimate=Estimate(None, None, 0))
    page = render(empty)
    assert "approving this center would add nothing" in page
    assert "No shift to show" in page


@pytest.mark.parametrize(("count", "text"), [(None, "–"), (812, "812 B"), (3400, "3.4 kB"), (141e6, "141 MB")])
def test_sizes_are_told_for_people(count: float | None, text: str) -> None:
    assert size(count) == text
