from dataclasses import replace

import pytest
import torch

from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.diffusion.guidance import Codes, guide_gradient, guided, steered, wanted
from fetalflex.diffusion.objective import clean_estimate
from fetalflex.diffusion.solver import noise
from fetalflex.diffusion.spectrum import band_power
from fetalflex.model.batches import to_signal
from fetalflex.model.condition import Condition, condition_from_layouts, null_condition
from fetalflex.model.denoiser import Denoiser
from fetalflex.model.layout_encoder import LayoutCode, LayoutEncoder
from tests.fetalflex import tiny

ASKED, OTHER = tiny.layout(14), tiny.layout(19)
X, T = noise([1, 2], tiny.SIZE), torch.tensor([0.7, 0.4])


def conditional(*layouts: Layout) -> torch.Tensor:
    generator = tiny.generator()
    condition = condition_from_layouts(layouts, generator.vocabulary, generator.size)
    with torch.no_grad():
        return generator.denoiser(X, T, condition)


def unconditional() -> torch.Tensor:
    generator = tiny.generator()
    condition = condition_from_layouts([ASKED, ASKED], generator.vocabulary, generator.size)
    with torch.no_grad():
        return generator.denoiser(X, T, null_condition(condition))


def test_guidance_points_away_from_the_null_condition() -> None:
    field = guided(Codes(tiny.generator(), 2), [ASKED, OTHER], [None, None], 2.5)
    with_, without = conditional(ASKED, OTHER), unconditional()
    assert torch.allclose(field(X, T), without + 2.5 * (with_ - without), atol=1e-4)


def test_guidance_points_away_from_what_is_avoided_in_that_image_alone() -> None:
    field = guided(Codes(tiny.generator(), 2), [ASKED, ASKED], [OTHER, None], 3.0)
    with_, avoided, null = conditional(ASKED, ASKED), conditional(OTHER, OTHER), unconditional()
    assert torch.allclose(field(X, T)[0], (avoided + 3 * (with_ - avoided))[0], atol=1e-4)
    assert torch.allclose(field(X, T)[1], (null + 3 * (with_ - null))[1], atol=1e-4)
    assert not torch.allclose(avoided[0], null[0], atol=1e-4)


def test_rescaled_guidance_adds_no_power_to_the_clean_estimate_of_any_band() -> None:
    plain, strong, mild = (
        clean_estimate(X, guided(Codes(tiny.generator(), 2), [ASKED, OTHER], [None, None], *how)(X, T), T)
        for how in ((1.0,), (8.0,), (8.0, 1.0, 1.0))
    )
    assert (band_power(strong) > 1.01 * band_power(plain)).any()
    assert (band_power(mild) <= 1.001 * band_power(plain)).all()
    assert torch.allclose(mild.mean((2, 3)), strong.mean((2, 3)), atol=1e-4)


def test_early_times_are_not_guided_but_away_from_what_is_avoided() -> None:
    late, early = torch.full_like(T, 0.5), torch.full_like(T, 0.7)
    limited = guided(Codes(tiny.generator(), 2), [ASKED, ASKED], [None, OTHER], 3.0, 0.6)
    whole = guided(Codes(tiny.generator(), 2), [ASKED, ASKED], [None, OTHER], 3.0)
    assert torch.equal(limited(X, late), whole(X, late))
    assert torch.equal(limited(X, early)[1], whole(X, early)[1])
    generator = tiny.generator()
    condition = condition_from_layouts([ASKED, ASKED], generator.vocabulary, generator.size)
    with torch.no_grad():
        plain = generator.denoiser(X, early, condition)
    assert torch.allclose(limited(X, early)[0], plain[0], atol=1e-5)


def test_second_condition_is_evaluated_only_where_an_image_is_guided(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, calls = tiny.generator(), []
    predict = type(generator.denoiser).predict

    def counted(self: Denoiser, x: torch.Tensor, t: torch.Tensor, code: LayoutCode) -> torch.Tensor:
        calls.append(len(x))
        return predict(self, x, t, code)

    monkeypatch.setattr(Denoiser, "predict", counted)
    for avoided, times, expected in (
        (None, (0.7, 0.9), 1),
        (None, (0.7, 0.6), 2),
        (OTHER, (0.7, 0.9), 2),
    ):
        calls.clear()
        guided(Codes(generator, 2), [ASKED, ASKED], [None, avoided], 3.0, 0.6)(X, torch.tensor(times))
        assert calls == [2] * expected


def test_image_does_not_depend_on_whether_others_of_its_batch_are_guided() -> None:
    field = guided(Codes(tiny.generator(), 2), [ASKED, ASKED], [None, None], 3.0, 0.6)
    alone, beside = (field(X, torch.tensor([0.7, other])) for other in (0.9, 0.3))
    assert torch.equal(alone[0], beside[0])


def test_scale_one_is_the_conditional_field_whatever_is_avoided() -> None:
    plain, avoiding = (guided(Codes(tiny.generator(), 2), [ASKED, OTHER], [a, None], 1.0)(X, T) for a in (None, OTHER))
    assert torch.equal(plain, avoiding)
    assert torch.allclose(plain, conditional(ASKED, OTHER), atol=1e-5)


def test_layouts_are_encoded_once_and_only_when_their_objects_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, calls = tiny.generator(), []
    forward = type(generator.denoiser.layout_encoder).forward

    def counted(self: LayoutEncoder, condition: Condition) -> LayoutCode:
        calls.append(len(condition))
        return forward(self, condition)

    monkeypatch.setattr(LayoutEncoder, "forward", counted)
    codes = Codes(generator, 2)
    first = codes.of([ASKED, OTHER, None, None])
    assert calls == [2, 2]  # the layouts, and nothing asked
    again = codes.of([replace(OTHER, objects=OTHER.objects), ASKED, None, None])
    assert calls == [2, 2]
    assert torch.equal(first.tokens[[1, 0, 2, 3]], again.tokens)
    assert torch.equal(first.residuals[0][[1, 0, 2, 3]], again.residuals[0])
    alone = Codes(generator, 2).of([OTHER])
    assert torch.equal(alone.tokens[0], first.tokens[1])
    codes.of([tiny.layout(14)])  # equal, but other objects
    assert calls == [2, 2, 2, 2]


def test_only_the_newest_codes_are_kept() -> None:
    codes = Codes(tiny.generator(), 2)
    layouts = [tiny.layout(13 + i / 4) for i in range(20)]
    for layout in layouts:
        codes.of([layout, None])
    assert len(codes.rows) == 16
    assert codes.of(layouts).tokens.shape[0] == 20


def test_wanted_are_outlines_and_absences_that_the_guide_knows() -> None:
    head, csp = structure_index("head"), structure_index("csp")
    boxed, gone = tiny.layout(boxed=True), tiny.layout().without("csp")
    aim = wanted([ASKED, boxed, gone], ("head", "csp"), tiny.SIZE)
    assert aim.channels.tolist() == sorted([head, csp])
    first = aim.channels.tolist().index(head)
    assert aim.counts[:, [first, 1 - first]].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert float(aim.counts.sum()) == 4
    assert torch.equal(aim.maps[0], torch.from_numpy(rasterize(ASKED, tiny.SIZE).maps)[aim.channels])
    assert not aim.maps[2, 1 - first].any()
    assert not wanted([ASKED], (), tiny.SIZE).counts.any()


def test_a_guide_that_knows_nothing_moves_nothing() -> None:
    clean = to_signal(tiny.cases(1).images)
    gradient, loss = guide_gradient(tiny.segmenter(), wanted([ASKED], (), tiny.SIZE), clean)
    assert not gradient.any()
    assert not loss.any()


def test_the_guides_gradient_is_that_of_its_loss() -> None:
    guide, aim = tiny.segmenter(), wanted([ASKED], tiny.segmenter().trained, tiny.SIZE)
    clean = to_signal(tiny.cases(1).images)
    guide.zero_grad()  # of its training
    gradient, loss = guide_gradient(guide, aim, clean)
    step = 1e-2 * gradient / gradient.square().sum().sqrt()
    ahead, behind = (guide_gradient(guide, aim, clean + s * step)[1] for s in (1, -1))
    assert float(ahead - behind) / 2e-2 == pytest.approx(float(gradient.square().sum().sqrt()), rel=0.1)
    assert 0 < float(loss) < 1
    assert all(p.grad is None for p in guide.parameters())


def test_steering_lowers_the_guides_loss_of_the_predicted_image_by_the_stated_move() -> None:
    guide, layouts = tiny.segmenter(), [ASKED, Layout("femur", "mm", 64.0, (), "far", 20.0)]
    aim, clean = wanted(layouts, guide.trained, tiny.SIZE), to_signal(tiny.cases(2).images)
    plain = lambda x, t: (x - clean) / t[:, None, None, None]  # noqa: E731
    x = 0.5 * clean + 0.5 * X
    v = steered(plain, guide, aim, 0.05)(x, torch.tensor([0.5, 0.5]))
    moved = x - 0.5 * v
    before, after = (guide_gradient(guide, aim, image)[1] for image in (clean, moved))
    assert float(after[0]) < float(before[0])
    rms = (moved - clean)[0].square().mean().sqrt()
    assert float(rms) == pytest.approx(0.05 * float(before[0]), rel=1e-2)
    assert torch.allclose(moved[1], clean[1], atol=1e-5)  # nothing asked that the guide knows: nothing moved


def test_steering_costs_one_evaluation_per_step() -> None:
    calls = []
    aim = wanted([ASKED, OTHER], tiny.segmenter().trained, tiny.SIZE)
    field = steered(lambda x, t: calls.append(1) or x, tiny.segmenter(), aim, 0.1)  # type: ignore[func-returns-value]
    assert torch.isfinite(field(X, T)).all()
    assert len(calls) == 1
