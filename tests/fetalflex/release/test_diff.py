"""Two releases held against one another: figures by their intervals, distances only where features are the same."""

from typing import Any

import pytest

from fetalflex.release.diff import Side, compare
from fetalflex.release.diff_page import render
from tests.fetalflex.release.test_manifest import manifest


def _side(tag: str, kid: tuple[float, float, float], dice: tuple[float, float, float], encoder: str = "e") -> Side:
    def row(name: str, values: tuple[float, float, float], key: str = "name") -> dict[str, Any]:
        return {key: name, "value": values[0], "low": values[1], "high": values[2]}

    quality = {"encoder": encoder, "fidelity": [row("kid", kid)], "control": [row("overall", dice, "structure")]}
    return Side(manifest(tag=tag), {"sample": {"normal": 8, "seeds": [1]}, "gate": {}}, quality, {})


@pytest.mark.parametrize(
    ("after", "verdict"),
    [((0.1, 0.05, 0.15), "same"), ((0.12, 0.1, 0.2), "overlap"), ((0.3, 0.2, 0.4), "apart")],
)
def test_figures_are_judged_by_their_intervals(after: tuple[float, float, float], verdict: str) -> None:
    found = compare(_side("v1", (0.1, 0.05, 0.15), (0.5, 0.4, 0.6)), _side("v2", after, (0.5, 0.4, 0.6)))
    assert {f.name: f.verdict for f in found.figures} == {"kid": verdict, "dice, overall": "same"}


def test_distances_of_other_features_are_not_comparable_but_dice_is() -> None:
    found = compare(
        _side("v1", (0.1, 0.0, 0.2), (0.5, 0.4, 0.6)), _side("v2", (0.9, 0.8, 1.0), (0.9, 0.8, 1.0), "other")
    )
    assert {f.name: f.verdict for f in found.figures} == {"kid": "not comparable", "dice, overall": "apart"}
    assert not found.same_encoder


def test_changed_parameters_and_code_are_named_one_by_one() -> None:
    before = Side(manifest(), {"sample": {"normal": 8, "pairs": 2}, "gate": [1]}, {}, {})
    after = Side(manifest(tag="v2", code={"train": "x"}), {"sample": {"normal": 9, "pairs": 2}, "new": None}, {}, {})
    found = compare(before, after)
    assert found.params == {"sample.normal": (8, 9), "gate": ([1], None)}
    assert found.code == ("train",)
    assert found.counts["training images of n"] == (9, 9)


def test_only_the_asked_question_of_the_evaluation_is_a_gain() -> None:
    def row(arm: str, task: str, difference: float) -> dict[str, Any]:
        told = {"model": "resnet", "metric": "auc", "against": "real", "test": "all"}
        limits = {"difference_low": difference - 0.01, "difference_high": difference + 0.01}
        return {**told, **limits, "arm": arm, "task": task, "difference": difference}

    rows = [
        row("real+synthetic", "plane", 0.1),
        row("real+synthetic", "anomaly", 0.2),
        row("real+augmentation", "plane", 9),
    ]
    side = Side(manifest(), {}, {}, {"results": rows})
    found = {f.name: f.before and f.before[0] for f in compare(side, side).figures}
    assert found == {"gain, plane: resnet auc": 0.1, "gain, anomaly: resnet auc": 0.2}


def test_figures_that_lie_apart_come_first_and_equal_ones_are_folded() -> None:
    one, two = _side("v1", (0.1, 0.05, 0.15), (0.5, 0.4, 0.6)), _side("v2", (0.1, 0.05, 0.15), (0.9, 0.8, 1.0))
    page = render(compare(one, two), (None, None))
    assert page.index("dice, overall") < page.index("<details>") < page.index("<td>kid</td>")
    assert "1 figure the same" in page


def test_the_page_shows_both_sheets_and_escapes_what_it_is_told() -> None:
    side = Side(manifest(), {"x": "<script>"}, {}, {})
    found = compare(side, Side(manifest(tag="v2"), {"x": "y"}, {}, {}))
    page = render(found, (b"one", None))
    assert "<script>" not in page
    assert page.count("data:image/png;base64,") == 1
    assert "No sheet." in page
