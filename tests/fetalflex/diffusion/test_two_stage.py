from dataclasses import replace

import numpy as np
import pytest

from fetalflex.anatomy.layout import Layout
from fetalflex.diffusion.repaint import grow
from fetalflex.diffusion.two_stage import SampleRequest, SampleResult, sample_images
from fetalflex.errors import LayoutError, ModelError
from fetalflex.params import Sample
from tests.fetalflex import tiny

REFERENCE = tiny.cases(1).images[0]
REGION = tiny.ellipse(16, 16, 4, 4)


def sampled(requests: list[SampleRequest], **changes: object) -> list[SampleResult]:
    params = tiny.SAMPLE.model_copy(update=changes)
    return sample_images(tiny.generator(), tiny.segmenter(), requests, params, seed=5)


def requests(count: int = 6) -> list[SampleRequest]:
    plain = [SampleRequest(f"n{i}", tiny.layout(13 + i, boxed=i % 2 == 1)) for i in range(count)]
    return [*plain, SampleRequest("edit", tiny.layout(), REFERENCE, REGION)]


def test_an_image_does_not_depend_on_its_company() -> None:
    together = {r.image_id: r for r in sampled(requests())}
    backwards = {r.image_id: r for r in sampled(requests()[::-1])}
    alone = {r.image_id: r for item in (requests()[1], requests()[-1]) for r in sampled([item])}
    for others in (backwards, alone):
        for name, result in others.items():
            assert np.array_equal(result.image, together[name].image), name
            assert np.array_equal(result.coarse, together[name].coarse), name
            assert result.evaluations == together[name].evaluations
            assert result.adapted.to_json() == together[name].adapted.to_json()


def test_results_come_in_the_order_of_the_requests() -> None:
    assert [r.image_id for r in sampled(requests()[::-1])] == [r.image_id for r in requests()[::-1]]


def test_budget_is_never_exceeded_and_spent_where_there_is_no_agreement() -> None:
    for result in sampled(requests(4)[:4], agreement=1.0):
        assert result.evaluations == 3 + 4
        assert result.agreement >= result.coarse_agreement


def test_images_that_agree_stop_early() -> None:
    for result in sampled(requests(4)[:4], agreement=0.0):
        assert result.evaluations == 3
        assert np.array_equal(result.image, result.coarse)


def test_explicit_masks_and_edited_objects_are_never_adapted() -> None:
    for layout in (tiny.layout(), tiny.layout(boxed=True, edited=True)):
        adapted = sampled([SampleRequest("a", layout)])[0].adapted
        for before, after in zip(layout.objects, adapted.objects, strict=True):
            if before.mask is not None or before.edited:
                assert after is before


def test_repainted_image_is_the_reference_outside_the_grown_region() -> None:
    result = sampled([requests()[-1]], repaint_margin_px=2)[0]
    outside = ~grow(REGION, 2)
    assert np.array_equal(result.image[outside], REFERENCE[outside])
    assert np.array_equal(result.coarse[outside], REFERENCE[outside])
    assert not np.array_equal(result.image, REFERENCE)


def test_another_seed_gives_another_image() -> None:
    item = requests()[:1]
    one, two = (sample_images(tiny.generator(), tiny.segmenter(), item, tiny.SAMPLE, s)[0].image for s in (1, 2))
    assert not np.array_equal(one, two)


def test_guidance_of_one_evaluates_the_condition_alone() -> None:
    plain, guided = (sampled(requests(1)[:1], guidance=g)[0].image for g in (1.0, 3.0))
    assert not np.array_equal(plain, guided)


def test_layout_without_known_objects_is_not_refined() -> None:
    empty = Layout("femur", "mm", 64.0, (), "far", 20.0)
    result = sampled([SampleRequest("femur", empty)])[0]
    assert np.isnan(result.agreement)
    assert result.evaluations == 3


def test_the_judge_is_refused() -> None:
    with pytest.raises(ModelError, match="'guide' alone"):
        sample_images(tiny.generator(), tiny.segmenter("judge", 4), requests(), Sample(), 1)


def test_reference_without_region_is_refused_by_image() -> None:
    with pytest.raises(LayoutError, match="edit: a reference"):
        sampled([replace(requests()[-1], region=None)])
    with pytest.raises(LayoutError, match=r"expected \(32, 32\)"):
        sampled([replace(requests()[-1], region=np.ones((8, 8), bool))])
