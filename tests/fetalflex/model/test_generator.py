from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from fetalflex.errors import ModelError
from fetalflex.model import generator as generator_module
from fetalflex.model.condition import condition_from_layouts
from fetalflex.model.denoiser import Denoiser, build_denoiser, build_unet
from fetalflex.model.generator import Generator
from fetalflex.params import Train
from tests.fetalflex import tiny


def test_loaded_generator_predicts_as_the_saved_one(tmp_path: Path) -> None:
    saved = tiny.generator()
    saved.save(tmp_path)
    loaded = Generator.load(tmp_path)
    assert (loaded.vocabulary, loaded.size, loaded.digest) == (saved.vocabulary, saved.size, saved.digest)
    assert set(saved.sectors.outlines) == {"far", "near"}
    assert loaded.sectors.outlines == saved.sectors.outlines
    asked = condition_from_layouts([tiny.layout()], saved.vocabulary, tiny.SIZE)
    x, t = torch.randn(1, 1, tiny.SIZE, tiny.SIZE), torch.tensor([0.5])
    with torch.no_grad():
        assert torch.equal(loaded.denoiser(x, t, asked), saved.denoiser(x, t, asked))


def test_diffusers_reads_the_unet_by_itself(tmp_path: Path) -> None:
    tiny.generator().save(tmp_path)
    unet = UNet2DConditionModel.from_pretrained(
        tmp_path, subfolder="unet", use_safetensors=True, low_cpu_mem_usage=False
    )
    assert unet.config.class_embed_type == "simple_projection"
    assert not [p.name for p in tmp_path.rglob("*") if p.suffix in (".bin", ".pt")]


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    tiny.generator().save(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="pickle"):
        Generator.load(tmp_path)


def test_missing_generator_is_refused_by_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no fetalflex-generator"):
        Generator.load(tmp_path / "nowhere")


def test_aligned_weights_are_taken_over() -> None:
    aligned = tiny.aligner().layout_encoder
    denoiser = build_denoiser(tiny.TRAIN, aligned, tiny.SIZE)
    assert torch.equal(denoiser.layout_encoder.structure.weight, aligned.structure.weight)
    assert torch.equal(denoiser.layout_encoder.trunk.enter.weight, aligned.trunk.enter.weight)


def test_attention_is_only_where_the_map_is_small() -> None:
    unet = build_unet(Train(channels=(32, 64, 128), attention_side=16), 32, 64)
    assert unet.config.down_block_types == ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")


def test_impossible_channels_are_refused() -> None:
    with pytest.raises(ModelError, match="multiples of 32"):
        build_unet(Train(channels=(30, 60)), 32, 64)


def test_unet_that_does_not_fit_is_refused() -> None:
    unet = build_unet(tiny.TRAIN.model_copy(update={"control_channels": 0}), 32, tiny.SIZE)
    with pytest.raises(ModelError, match="do not fit"):
        Denoiser(unet, tiny.generator().denoiser.layout_encoder)


def test_no_file_of_weights_is_above_the_limit_and_diffusers_reads_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator_module, "SHARD_BYTES", 200_000)
    saved = tiny.generator()
    saved.save(tmp_path)
    files = list((tmp_path / "unet").glob("*.safetensors"))
    assert len(files) > 3
    loaded = Generator.load(tmp_path)
    own = saved.denoiser.state_dict()
    assert all(torch.equal(own[k], v) for k, v in loaded.denoiser.state_dict().items())
    unet = UNet2DConditionModel.from_pretrained(
        tmp_path, subfolder="unet", use_safetensors=True, low_cpu_mem_usage=False
    )
    assert torch.equal(unet.conv_in.weight, own["unet.conv_in.weight"])
