import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.shapes import Ellipse
from fetalflex.diffusion import two_stage
from fetalflex.diffusion.guidance import Codes, guided
from fetalflex.diffusion.objective import Velocity
from fetalflex.diffusion.repaint import grow
from fetalflex.diffusion.two_stage import SampleRequest, SampleResult, decoded, sample_images
from fetalflex.errors import LayoutError, ModelError
from fetalflex.masks.outlines import LEAST_CASES
from fetalflex.model.denoiser import Denoiser
from fetalflex.model.generator import Generator
from fetalflex.params import Sample
from tests.fetalflex import tiny

REFERENCE = tiny.cases(1).images[0]
REGION = tiny.ellipse(16, 16, 4, 4)
ALL = {"steering": 0.1, "adapt_time": 0.6, "repaint_jumps": 1, "agreement": 1.0}


def sampled(requests: list[SampleRequest], **changes: object) -> list[SampleResult]:
    params = tiny.SAMPLE.model_copy(update=changes)
    return sample_images(tiny.generator(), tiny.segmenter(), requests, params, seed=5)


def edit(name: str, x: float = 16, avoided: bool = False) -> SampleRequest:
    other = tiny.layout(x) if avoided else None
    layout = tiny.layout(x).without("csp") if avoided else tiny.layout(x)
    return SampleRequest(name, layout, REFERENCE, REGION, other)


def requests(count: int = 6) -> list[SampleRequest]:
    """Masks and boxes, some that avoid a layout, and edits with and without an avoided one: several batches of each."""
    plain = [SampleRequest(f"n{i}", tiny.layout(13 + i, boxed=i % 2 == 1)) for i in range(count)]
    avoiding = [replace(r, image_id=f"a{r.image_id}", avoided=tiny.layout(20)) for r in plain[:2]]
    return [*plain, edit("e0"), *avoiding, edit("e1", 17, True), edit("e2", 15), edit("e3", 14, True), edit("edit")]


def same(one: SampleResult, other: SampleResult) -> bool:
    arrays = np.array_equal(one.image, other.image) and np.array_equal(one.coarse, other.coarse)
    counts = (one.evaluations, one.rounds) == (other.evaluations, other.rounds)
    return arrays and counts and one.adapted.to_json() == other.adapted.to_json()


@pytest.fixture(scope="module")
def together() -> dict[str, SampleResult]:
    return {r.image_id: r for r in sampled(requests(), **ALL)}


def test_an_image_does_not_depend_on_its_company(together: dict[str, SampleResult]) -> None:
    everything = requests()
    random = np.random.default_rng(1)
    orders = [everything[::-1], [everything[i] for i in random.permutation(len(everything))]]
    for order in orders:
        assert all(same(r, together[r.image_id]) for r in sampled(order, **ALL))


@pytest.mark.parametrize("name", ["n1", "an1", "e0", "e3"])
def test_an_image_alone_in_a_padded_batch_is_the_same(name: str, together: dict[str, SampleResult]) -> None:
    (alone,) = sampled([r for r in requests() if r.image_id == name], **ALL)
    assert same(alone, together[name])


def test_an_image_of_which_nothing_is_asked_is_made_in_one_stage_and_changes_no_other(
    together: dict[str, SampleResult],
) -> None:
    bare = SampleRequest("bare", replace(tiny.layout(16), objects=()))
    made = {r.image_id: r for r in sampled([bare, *requests()[:3]], **ALL)}
    assert np.isnan(made["bare"].agreement)
    assert (made["bare"].rounds, made["bare"].evaluations) == (0, tiny.SAMPLE.coarse_steps)
    assert made["bare"].image.std() > 0
    assert all(same(made[name], together[name]) for name in ("n0", "n1", "n2"))


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_split_requests_give_the_same_images(cut: int, together: dict[str, SampleResult]) -> None:
    for part in (requests()[:cut], requests()[cut:]):
        assert all(same(r, together[r.image_id]) for r in sampled(part, **ALL))


def test_images_that_stopped_early_do_not_change_the_others() -> None:
    """Some agree after the coarse stage, so that the fine batches are put together anew."""
    scores = sorted(r.coarse_agreement for r in sampled(requests(), steering=0.1))
    middle = {"steering": 0.1, "agreement": scores[len(scores) // 2]}
    mixed = {r.image_id: r for r in sampled(requests(), **middle)}
    assert len({r.evaluations for r in mixed.values()}) > 2
    assert all(same(r, mixed[r.image_id]) for r in sampled(requests()[::-1], **middle))
    (alone,) = sampled([max(requests(), key=lambda r: mixed[r.image_id].rounds)], **middle)
    assert same(alone, mixed[alone.image_id])


def test_results_come_in_the_order_of_the_requests() -> None:
    assert [r.image_id for r in sampled(requests()[::-1])] == [r.image_id for r in requests()[::-1]]


def test_budget_is_never_exceeded_and_spent_where_there_is_no_agreement() -> None:
    for result in sampled(requests(4)[:4], agreement=1.0):
        assert (result.evaluations, result.rounds) == (3 + 4, 2)
        assert result.agreement >= result.coarse_agreement


@settings(max_examples=8, deadline=None)
@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 3))
def test_evaluations_are_counted_truly_and_stay_within_the_budget(budget: int, fine_steps: int, jumps: int) -> None:
    generator = tiny.generator()
    calls: list[torch.Tensor] = []
    predict = type(generator.denoiser).predict

    def counted(self: Denoiser, x: torch.Tensor, *args: object) -> torch.Tensor:
        if not calls or calls[-1] is not x:  # both conditions of a guided evaluation look at the same x
            calls.append(x)
        return predict(self, x, *args)  # type: ignore[arg-type]

    changes = {"budget": budget, "fine_steps": fine_steps, "repaint_jumps": jumps, "steering": 0.1}
    for request in (requests(1)[0], requests()[-1]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Denoiser, "predict", counted)
            calls.clear()
            (result,) = sampled([request], **changes)
        assert result.evaluations == len(calls) <= budget
        assert result.evaluations + fine_steps > budget or result.agreement == 1.0


def test_finished_images_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    predict = Denoiser.predict

    def counted(self: Denoiser, x: torch.Tensor, *args: object) -> torch.Tensor:
        batches.append(len(x))
        return predict(self, x, *args)  # type: ignore[arg-type]

    always = {"guidance_until": 1.0}  # two conditions each
    scores = sorted(r.coarse_agreement for r in sampled(requests()[:6], **always))
    monkeypatch.setattr(Denoiser, "predict", counted)
    results = sampled(requests()[:6], agreement=scores[2], **always)
    going = [r for r in results if r.rounds]
    assert 0 < len(going) < 3  # they fit in one batch of 4
    assert batches == [4] * 2 * (2 * 3 + 2 * max(r.rounds for r in going))


def test_images_that_agree_stop_early() -> None:
    for result in sampled(requests(4)[:4], agreement=0.0):
        assert result.evaluations == 3
        assert np.array_equal(result.image, result.coarse)


def test_explicit_masks_and_edited_objects_are_never_adapted() -> None:
    ellipse = LayoutObject.of("head", Ellipse((32.0, 32.0), (20.0, 14.0), 10.0))
    for layout in (tiny.layout(), tiny.layout(boxed=True, edited=True), tiny.layout(boxed=True).replaced(ellipse)):
        adapted = sampled([SampleRequest("a", layout)])[0].adapted
        for before, after in zip(layout.objects, adapted.objects, strict=True):
            if before.mask is not None or before.edited or before.shape is not None:
                assert after is before


def test_boxes_begin_as_the_outlines_that_they_usually_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    guide, asked = deepcopy(tiny.segmenter()), []
    guide.outlines.fit(tiny.cases(LEAST_CASES))

    def noted(codes: Codes, layouts: Sequence[Layout], *args: object) -> Velocity:
        asked.append(list(layouts))
        return guided(codes, layouts, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(two_stage, "guided", noted)
    boxed = tiny.layout(boxed=True)
    region = tiny.ellipse(16, 16, 4, 4)
    for request in (SampleRequest("a", boxed), SampleRequest("a", boxed, REFERENCE, region)):
        for typical in (True, False):
            asked.clear()
            params = tiny.SAMPLE.model_copy(update={"agreement": 0.0, "adapt_time": 0.0, "typical_outlines": typical})
            result = sample_images(tiny.generator(), guide, [request], params, seed=5)[0]
            expected = guide.outlines.drawn(boxed, tiny.SIZE) if typical else boxed
            assert asked[0][0].to_json() == expected.to_json()
            assert boxed.to_json() != guide.outlines.drawn(boxed, tiny.SIZE).to_json()
            assert [o.box for o in result.adapted.objects] == [o.box for o in boxed.objects]


def test_coarse_objects_follow_the_predicted_clean_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their outlines are in use before the coarse stage ends, and explicit ones are what they were."""
    layouts = []

    def noted(codes: Codes, asked: Sequence[Layout], *args: object) -> Velocity:
        layouts.append(list(asked))
        return guided(codes, asked, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(two_stage, "guided", noted)
    sampled([SampleRequest("a", tiny.layout(boxed=True)), SampleRequest("b", tiny.layout())], agreement=0.0)
    first, then = layouts
    assert first[0].find("head").mask is None
    assert then[0].find("head").mask is not None
    assert then[1].objects == first[1].objects
    layouts.clear()
    sampled([SampleRequest("a", tiny.layout(boxed=True))], agreement=0.0, adapt_time=0.0)
    assert len(layouts) == 1


def test_repainted_image_is_the_reference_outside_the_grown_region() -> None:
    for avoided in (False, True):
        result = sampled([edit("edit", 17, avoided)], repaint_margin_px=2, budget=12, **ALL | {"adapt_time": 0.5})[0]
        outside = ~grow(REGION, 2)
        assert result.rounds > 0  # the fine stage keeps to it as well
        assert np.array_equal(result.image[outside], REFERENCE[outside])
        assert np.array_equal(result.coarse[outside], REFERENCE[outside])
        assert not np.array_equal(result.image, REFERENCE)
        assert np.array_equal(result.region, ~outside)


def test_avoided_layout_changes_the_image() -> None:
    plain, avoiding = sampled([edit("edit"), replace(edit("edit"), avoided=tiny.layout(20))])
    assert not np.array_equal(plain.image, avoiding.image)
    same_layout = sampled([replace(edit("edit"), avoided=tiny.layout())], guidance=3.0)[0]
    unguided = sampled([edit("edit")], guidance=1.0)[0]
    assert np.abs(same_layout.coarse.astype(int) - unguided.coarse.astype(int)).max() <= 1  # nothing to point away from


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


FAULTS = {
    "reference image and its region go together": {"region": None},
    "region is bool (8, 8); expected bool (32, 32)": {"region": np.ones((8, 8), bool)},
    "reference is uint8 (64, 64); expected uint8 (32, 32)": {"reference": np.zeros((64, 64), np.uint8)},
    "reference is float64 (32, 32); expected uint8": {"reference": np.zeros((32, 32))},
    "region is empty": {"region": np.zeros((32, 32), bool)},
    "avoided layout has a canvas of 32 mm; expected that of the asked one, 64 mm": {
        "avoided": Layout("transventricular", "mm", 32.0, ())
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_impossible_request_is_refused_by_its_id_before_any_work(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Denoiser, "predict", lambda *args: pytest.fail("computed"))
    with pytest.raises(LayoutError, match=f"edit: .*{re.escape(fault)}"):
        sampled([*requests(2), replace(edit("edit"), **FAULTS[fault])])  # type: ignore[arg-type]


def test_an_unknown_center_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Denoiser, "predict", lambda *args: pytest.fail("computed"))
    foreign = replace(tiny.layout(), center="elsewhere")
    with pytest.raises(ModelError, match="x: center 'elsewhere' is unknown to the model; expected one of"):
        sampled([requests(1)[0], SampleRequest("x", foreign)])
    with pytest.raises(ModelError, match="center 'elsewhere'"):
        sampled([SampleRequest("x", tiny.layout(), avoided=foreign)])


def test_a_layout_out_of_the_frame_is_no_layout() -> None:
    with pytest.raises(LayoutError, match="leaves the frame of 64 mm"):
        Layout("transventricular", "mm", 64.0, (LayoutObject("head", (1.0, 1.0, 70.0, 9.0)),))


def test_a_missing_generator_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="generator"):
        Generator.load(tmp_path / "generator")
    assert not list(tmp_path.iterdir())


def test_the_mesh_of_patches_is_taken_out_of_pixels_where_asked_and_never_of_latents() -> None:
    denoiser = tiny.generator().denoiser
    assert denoiser.patch == 2
    mesh = torch.tensor([[0.01, -0.01], [-0.01, 0.01]]).repeat(16, 16)[None, None]
    x = torch.full((1, 1, 32, 32), 0.1) + mesh

    def left(**changes: object) -> int:
        found = decoded(denoiser, x, tiny.SAMPLE.model_copy(update=changes))
        return len(np.unique(found[0, 8:-8, 8:-8]))

    assert left(remove_checkerboard=False) == 2
    assert left() == 1

    class Latents(Denoiser):
        def decode(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1]

    of_latents = Latents(denoiser.unet, denoiser.layout_encoder)
    pixels = decoded(of_latents, x.repeat(1, 4, 1, 1), tiny.SAMPLE)
    assert len(np.unique(pixels)) == 2
