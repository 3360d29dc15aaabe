import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file

from fetalflex.diffusion.objective import interpolate
from fetalflex.diffusion.train import Run, train_generator
from fetalflex.diffusion.two_stage import SampleRequest, sample_images
from fetalflex.errors import ModelError
from fetalflex.model import stable_diffusion
from fetalflex.model.condition import condition_from_layouts
from fetalflex.model.generator import Generator
from fetalflex.model.stable_diffusion import StableDiffusion, load_base
from tests.fetalflex import tiny

TEXT = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny-sd")


def write_base(folder: Path, prediction: str = "epsilon", **unet: object) -> Path:
    """A Stable Diffusion of few weights in diffusers' own layout: two levels, latents at half the side."""
    torch.manual_seed(0)
    UNet2DConditionModel(
        **{
            "sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": (32, 64),
            "layers_per_block": 1, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 24, "norm_num_groups": 8,
            "attention_head_dim": 8, **unet,
        }
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction
    ).save_pretrained(folder / "scheduler")
    save_file({"text": torch.randn(TEXT, 24)}, folder / "null_embedding.safetensors")
    return folder


def params(folder: Path, **more: object) -> object:
    changes = {"backbone": "sd", "base": str(folder), "patch": 2, "learning_rate": 1e-3} | more
    return tiny.TRAIN.model_copy(update=changes)


@torch.enable_grad()  # the tiny aligner may be trained here, whatever the caller does without
def steered(folder: Path) -> StableDiffusion:
    return StableDiffusion.around(load_base(str(folder)), tiny.aligner().layout_encoder, 2, tiny.SIZE)


def code_of(model: StableDiffusion, count: int) -> object:
    asked = condition_from_layouts([tiny.layout()] * count, ("not-stated", "far", "near"), tiny.SIZE)
    return model.layout_encoder(asked)


@torch.no_grad()
def test_its_velocity_is_that_of_diffusers_own_prediction(folder: Path) -> None:
    model = steered(folder)
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    clean, noise = torch.randn(3, 4, 16, 16), torch.randn(3, 4, 16, 16)
    steps = torch.tensor([20, 500, 980])
    a = scheduler.alphas_cumprod[steps].sqrt()
    b = (1 - scheduler.alphas_cumprod[steps]).sqrt()
    t = b / (a + b)
    code = code_of(model, 3)
    noisy = scheduler.add_noise(clean, noise, steps)
    assert torch.allclose(model.step_of(t), steps.float(), atol=0.05)
    assert torch.allclose(interpolate(clean, noise, t), noisy / (a + b)[:, None, None, None], atol=1e-5)
    tokens = torch.cat([model.text.expand(3, -1, -1), model.adapter.tokens(code.tokens)], 1)
    mask = torch.cat([torch.ones(3, TEXT, dtype=torch.bool), code.token_mask], 1)
    predicted = model.unet(noisy, steps, encoder_hidden_states=tokens, encoder_attention_mask=mask).sample
    wide_a, wide_b = a[:, None, None, None], b[:, None, None, None]
    wanted = predicted - (noisy - wide_b * predicted) / wide_a
    found = model.predict(interpolate(clean, noise, t), t, code)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=2e-2)


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_the_straight_paths_velocity(tmp_path: Path, prediction: str) -> None:
    model = steered(write_base(tmp_path, prediction))
    clean, noise, t = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16), torch.tensor([0.2, 0.8])
    norm = ((1 - t).square() + t.square()).sqrt()[:, None, None, None]
    a, b = (1 - t)[:, None, None, None] / norm, t[:, None, None, None] / norm
    perfect = noise if prediction == "epsilon" else a * noise - b * clean

    class Knows(torch.nn.Module):
        config = model.unet.config

        def forward(self, *_: object, **__: object) -> object:
            return type("Out", (), {"sample": perfect})

    code = code_of(model, 2)
    model.unet = Knows()
    assert torch.allclose(model.predict(interpolate(clean, noise, t), t, code), noise - clean, atol=1e-4)


@torch.no_grad()
def test_velocity_is_finite_from_pure_noise_to_the_image(folder: Path) -> None:
    model = steered(folder)
    x, t = torch.randn(4, 4, 16, 16), torch.tensor([0.0, 0.3, 0.97, 1.0])
    assert model.predict(x, t, code_of(model, 4)).isfinite().all()


def test_training_moves_the_adapter_alone_and_resumes_bit_identical(folder: Path, tmp_path: Path) -> None:
    asked = params(folder)
    whole = list(train_generator(tiny.cases(), tiny.aligner(), asked, Run(1, tmp_path / "whole")))  # type: ignore[arg-type]
    broken = train_generator(tiny.cases(), tiny.aligner(), asked, Run(1, tmp_path / "broken"))  # type: ignore[arg-type]
    for _ in range(3):
        next(broken)
    broken.close()  # type: ignore[attr-defined]
    rest = list(train_generator(tiny.cases(), tiny.aligner(), asked, Run(1, tmp_path / "broken")))  # type: ignore[arg-type]
    assert [s.loss for s in rest] == [s.loss for s in whole[2:]]
    assert tiny.weights(tmp_path / "whole") == tiny.weights(tmp_path / "broken")
    trained, begun = whole[-1].trained, load_base(str(folder))
    assert trained is not None
    assert all(torch.equal(v, begun.unet.state_dict()[k]) for k, v in trained.denoiser.unet.state_dict().items())
    assert not torch.equal(
        trained.denoiser.layout_encoder.structure.weight, tiny.aligner().layout_encoder.structure.weight
    )


def test_loss_falls(folder: Path) -> None:
    asked = params(folder, steps=60, batch_size=8, learning_rate=5e-3)
    losses = [s.loss for s in train_generator(tiny.cases(), tiny.aligner(), asked, Run(1))]  # type: ignore[arg-type]
    assert sum(losses[-15:]) < 0.95 * sum(losses[:15])


def test_loaded_generator_predicts_as_the_saved_one_and_copies_no_base(folder: Path, tmp_path: Path) -> None:
    saved = [s.trained for s in train_generator(tiny.cases(), tiny.aligner(), params(folder), Run(1))][-1]  # type: ignore[arg-type]
    assert saved is not None
    saved.save(tmp_path)
    assert not (tmp_path / "unet").exists()
    loaded = Generator.load(tmp_path)
    asked = condition_from_layouts([tiny.layout()], saved.vocabulary, tiny.SIZE)
    x, t = torch.randn(1, *loaded.denoiser.shape(tiny.SIZE)), torch.tensor([0.5])
    with torch.no_grad():
        assert torch.equal(loaded.denoiser(x, t, asked), saved.denoiser(x, t, asked))
        image = loaded.denoiser.decode(loaded.denoiser.encode(torch.zeros(1, 1, tiny.SIZE, tiny.SIZE)))
    assert image.shape == (1, 1, tiny.SIZE, tiny.SIZE)


def test_a_generator_on_another_base_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    made = [s.trained for s in train_generator(tiny.cases(), tiny.aligner(), params(base), Run(1))][-1]  # type: ignore[arg-type]
    assert made is not None
    made.save(tmp_path / "made")
    write_base(base, "v_prediction")
    with pytest.raises(ModelError, match="was trained on another"):
        Generator.load(tmp_path / "made")


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere: no Stable Diffusion here"):
        load_base(str(tmp_path / "nowhere"))


def test_pickled_model_is_never_opened(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    (base / "unet" / "diffusion_pytorch_model.safetensors").rename(base / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"unet holds diffusion_pytorch_model\.bin, a pickle"):
        load_base(str(base))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    weights = base / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ModelError, match="its vae cannot be read"):
        load_base(str(base))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its unet takes 9 channels"):
        load_base(str(write_base(tmp_path, in_channels=9)))
    with pytest.raises(ModelError, match="predicts sample; expected epsilon or v_prediction"):
        load_base(str(write_base(tmp_path, "sample")))


def test_an_embedding_of_another_width_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path)
    save_file({"text": torch.randn(5, 7)}, base / "null_embedding.safetensors")
    with pytest.raises(ModelError, match=r"is \(5, 7\); expected \[tokens, 24\]"):
        load_base(str(base))
    (base / "null_embedding.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no null_embedding.safetensors|no readable text encoder"):
        load_base(str(base))


def test_a_base_that_does_not_fit_is_refused(folder: Path) -> None:
    base, encoder = load_base(str(folder)), tiny.aligner().layout_encoder
    with pytest.raises(ModelError, match=r"shrinks by 2; found train\.patch 4"):
        StableDiffusion.around(base, encoder, 4, 32)
    with pytest.raises(ModelError, match="multiple of 4; found 30"):
        StableDiffusion.around(base, encoder, 2, 30)


def test_hub_models_are_pinned_and_fetched_without_pickles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def fetch(repository: str, **more: object) -> str:
        asked.update(more, repository=repository)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert load_base("hub:owner/name@abc").name == "hub:owner/name@abc"
    assert (asked["repository"], asked["revision"]) == ("owner/name", "abc")
    assert "*.bin" in json.dumps(asked["ignore_patterns"])
    with pytest.raises(ModelError, match="@REVISION"):
        load_base("hub:owner/name")
    assert stable_diffusion.HUB == "hub:"


def test_our_sampler_works_on_latents_and_edits_keep_their_outside(folder: Path) -> None:
    generator = [s.trained for s in train_generator(tiny.cases(), tiny.aligner(), params(folder), Run(1))][-1]  # type: ignore[arg-type]
    assert generator is not None
    reference, region = tiny.cases().images[0], np.zeros((tiny.SIZE, tiny.SIZE), bool)
    region[10:20, 12:22] = True
    requests = [
        SampleRequest("a", tiny.layout(boxed=True)),
        SampleRequest("b", tiny.layout(), reference, region),
    ]
    asked = tiny.SAMPLE.model_copy(update={"repaint_margin_px": 1, "darkening": 0.0})
    plain, edited = sample_images(generator, tiny.segmenter(), requests, asked, 5)
    assert plain.image.shape == (tiny.SIZE, tiny.SIZE)
    assert edited.region is not None
    assert np.array_equal(edited.image[~edited.region], reference[~edited.region])
    assert not np.array_equal(edited.image, reference)
    again = sample_images(generator, tiny.segmenter(), requests[:1], asked, 5)[0]
    assert np.array_equal(again.image, plain.image)
    for name in ("steering", "darkening"):
        with pytest.raises(ModelError, match=f"{name} needs a generator of pixels"):
            sample_images(generator, tiny.segmenter(), requests, asked.model_copy(update={name: 0.5}), 5)
