import numpy as np
import pytest

from fetalflex.model.retrieval import TOP, as_metrics, retrieve
from tests.fetalflex import tiny


def test_candidates_do_not_depend_on_the_other_cases_order() -> None:
    cases = tiny.cases(12)
    found = retrieve(tiny.aligner(), cases, seed=3, candidates=6)
    assert found == retrieve(tiny.aligner(), cases, seed=3, candidates=6)


def test_every_direction_is_measured_against_its_chance() -> None:
    found = retrieve(tiny.aligner(), tiny.cases(12), seed=3, candidates=6)
    assert len(found) == 4 * len(TOP)
    assert found["layout_to_image_r1"].queries == 12
    assert found["token_to_region_r5"].queries == 24  # head and CSP
    assert found["image_to_layout_r1"].chance == pytest.approx(1 / 6)
    assert found["region_to_token_r5"].chance == pytest.approx(5 / 6)
    assert all(0 <= one.rate.low <= one.rate.value <= one.rate.high <= 1 for one in found.values())


def test_an_aligner_that_knows_nothing_finds_nothing() -> None:
    blind = tiny.aligner()
    for layer in (blind.whole_image, blind.region_image):
        kept = layer.weight.data.clone(), layer.bias.data.clone()
        layer.weight.data.zero_()
        layer.bias.data.fill_(1.0)
        found = retrieve(blind, tiny.cases(12), seed=3, candidates=6)
        layer.weight.data, layer.bias.data = kept
        name = "layout_to_image_r1" if layer is blind.whole_image else "token_to_region_r1"
        assert found[name].rate.value == 0.0  # all scores are equal: a tie is no find


def test_candidates_are_of_other_patients() -> None:
    cases = tiny.cases(8)
    alone = type(cases)(**{**vars(cases), "patients": np.array(["one"] * 8), "centers": np.array(["far"] * 8)})
    found = retrieve(tiny.aligner(), alone, seed=3)
    assert found["layout_to_image_r1"].queries == 0
    assert as_metrics(found) == {}


def test_nothing_to_compare_is_not_a_number() -> None:
    found = retrieve(tiny.aligner(), tiny.cases(0), seed=3)
    assert all(np.isnan(one.rate.value) for one in found.values())
