import dataclasses
import json

from fetalflex.quality.gate_metrics import IMAGE_METRICS, is_release_metric
from fetalflex.quality.summary import Parts, all_figures, flat_metrics, quality_report
from fetalflex.tables import Scores
from tests.fetalflex.quality.figures import CONTROL, FIGURES, PRIVACY

PARTS = Parts(("inception", "texture"), FIGURES, CONTROL, (), PRIVACY)


def test_every_figure_has_the_same_form_and_says_where_it_applies():
    rows = quality_report(PARTS)["metrics"]
    assert all({"name", "value", "low", "high", "n", "floor"} <= set(row) for row in rows)
    assert [row["value"] for row in rows if row["name"] == "kid" and row.get("center") == "harbour"] == [0.3]
    assert all("center" not in row for row in rows if row["name"] == "dice.head")


def test_headline_figures_are_those_of_the_first_encoder_over_all_images():
    report = quality_report(PARTS)
    assert [(row["name"], row["value"]) for row in report["fidelity"]] == [("kid", 0.12), ("frechet", 90.0)]
    assert report["privacy"]["canary_recall"] == 0.975


def test_the_flat_file_nests_numbers_alone_and_leaves_out_what_is_missing():
    odd = dataclasses.replace(FIGURES[0], name="recall", value=float("nan"))
    flat = flat_metrics(quality_report(dataclasses.replace(PARTS, figures=(*FIGURES, odd))))
    assert flat["all"]["kid"] == 0.12
    assert flat["center"] == {"harbour": {"kid": 0.3}}
    assert "recall" not in flat["all"]
    json.dumps(flat, allow_nan=False)


def test_the_gate_knows_every_figure_that_a_report_holds():
    assert all(is_release_metric(figure.name) for figure in all_figures(PARTS) if figure.anomaly is None)


def test_the_gate_finds_its_image_metrics_in_the_scores():
    assert set(IMAGE_METRICS) <= set(Scores.create_empty().columns)
