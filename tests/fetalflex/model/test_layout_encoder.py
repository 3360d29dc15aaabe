import torch
from diffusers import UNet2DConditionModel

from fetalflex.anatomy.ontology import PLANE_NAMES, STRUCTURE_NAMES
from fetalflex.model.condition import condition_from_cases, null_condition
from fetalflex.model.denoiser import Denoiser
from fetalflex.model.layout_encoder import LayoutEncoder, adapter_levels, fourier, pool_regions
from tests.fetalflex import tiny

VOCABULARY = ("not-stated", "far", "near")


def encoder(**more: object) -> LayoutEncoder:
    torch.manual_seed(0)
    counts = (len(STRUCTURE_NAMES), len(PLANE_NAMES), 3)
    return LayoutEncoder(counts, width=32, hidden=8, **more)  # type: ignore[arg-type]


def test_tokens_are_masked_where_nothing_is_asked() -> None:
    code = encoder()(condition_from_cases(tiny.cases(2), VOCABULARY))
    assert code.tokens.shape == (2, 3 + len(STRUCTURE_NAMES), 32)
    assert code.token_mask.sum(1).tolist() == [5, 5]  # head, csp; plane, center, age
    assert not code.tokens[~code.token_mask].any()


def test_null_condition_has_a_finite_code_that_differs() -> None:
    asked = condition_from_cases(tiny.cases(2), VOCABULARY)
    model = encoder()
    null = model(null_condition(asked))
    assert null.tokens.isfinite().all()
    assert not torch.allclose(null.overall, model(asked).overall)


def test_objects_that_are_not_asked_do_not_change_the_code() -> None:
    asked = condition_from_cases(tiny.cases(2), VOCABULARY)
    model = encoder().eval()
    before = model(asked)
    asked.boxes[:, 5] = 0.5  # not asked for: whatever stands in its box must not matter
    assert torch.allclose(model(asked).overall, before.overall, atol=1e-6)


def test_residuals_fit_any_mixture_of_blocks() -> None:
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 64, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=32, norm_num_groups=8,
    )  # fmt: skip
    levels = adapter_levels(dict(unet.config))
    assert levels == ((32, 1), (64, 4), (64, 4))
    denoiser = Denoiser(unet, encoder(stem_channels=0, levels=levels))
    x, t = torch.randn(2, 1, 32, 32), torch.tensor([0.2, 0.9])
    assert denoiser(x, t, condition_from_cases(tiny.cases(2), VOCABULARY)).shape == x.shape


def test_new_residual_heads_leave_the_unet_as_it_is() -> None:
    code = encoder(levels=((32, 1), (64, 2)))(condition_from_cases(tiny.cases(2), VOCABULARY))
    assert [tuple(r.shape) for r in code.residuals] == [(2, 32, 16, 16), (2, 64, 8, 8)]
    assert not any(r.any() for r in code.residuals)


def test_pooled_region_is_the_region() -> None:
    features = torch.zeros(1, 1, 16, 16)
    features[..., 4:8, 8:12] = 5.0
    inside = torch.tensor([[[0.5, 0.25, 0.75, 0.5]]])
    assert torch.equal(pool_regions(features, inside, 4), torch.full((1, 1, 1, 4, 4), 5.0))


def test_fourier_features_tell_boxes_apart() -> None:
    values = torch.linspace(0, 1, 65)[:, None]
    codes = fourier(values)
    assert codes.shape == (65, 12)
    assert torch.cdist(codes, codes).fill_diagonal_(1).min() > 0.05
