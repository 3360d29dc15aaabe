from pathlib import Path

import pytest
import torch
from torch import nn

from fetalflex.errors import ModelError
from fetalflex.model import checkpoint
from fetalflex.model.checkpoint import (
    NAME,
    Ema,
    digest_of,
    load_checkpoint,
    load_weights,
    read_config,
    read_tensors,
    save_checkpoint,
    save_module,
)
from fetalflex.params import Train


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer, Ema]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer, ema = torch.optim.AdamW(module.parameters(), lr=0.1), Ema(module, 0.9)
    for step in range(steps):
        learn(module, optimizer, ema, step)
    return module, optimizer, ema


def learn(module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema, step: int) -> None:
    optimizer.zero_grad()
    module(torch.full((1, 3), float(step))).square().sum().backward()
    optimizer.step()
    ema.update(module, step)


def test_resumed_training_is_bit_identical(tmp_path: Path) -> None:
    whole = trained(6)
    save_checkpoint(tmp_path, "d", 3, *trained(3))
    resumed = trained(0)
    assert load_checkpoint(tmp_path, "d", *resumed) == 3
    for step in range(3, 6):
        learn(*resumed, step)
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), resumed[0].parameters(), strict=True))
    assert all(torch.equal(whole[2].values[k], resumed[2].values[k]) for k in whole[2].values)


def test_no_checkpoint_means_step_zero(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none", "d", *trained(0)) == 0
    assert load_checkpoint(None, "d", *trained(0)) == 0


def test_only_the_last_checkpoint_is_kept(tmp_path: Path) -> None:
    for steps in (1, 2):
        save_checkpoint(tmp_path, "d", steps, *trained(steps))
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "one", 1, *trained(1))
    with pytest.raises(ModelError, match="another configuration"):
        load_checkpoint(tmp_path, "two", *trained(0))


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "d", 1, *trained(1))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(tmp_path, "d", *trained(0))


@pytest.mark.parametrize("name", ["model.pt", "weights.bin", "x.ckpt"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickle"):
        read_tensors(tmp_path / name)
    with pytest.raises(ModelError, match="pickle"):
        read_config(tmp_path, "thing")


def test_module_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_module(tmp_path, nn.Linear(1, 1), {"kind": "thing"})
    assert read_config(tmp_path, "thing") == {"kind": "thing"}
    with pytest.raises(ModelError, match="expected a other"):
        read_config(tmp_path, "other")


def test_digest_ignores_how_often_is_saved_and_nothing_else() -> None:
    assert digest_of(Train(), seed=1) == digest_of(Train(checkpoint_every=7), seed=1)
    assert digest_of(Train(), seed=1) != digest_of(Train(), seed=2)
    assert digest_of(Train(), seed=1) != digest_of(Train(learning_rate=1e-4), seed=1)


def test_weights_above_the_limit_are_cut_into_shards_and_read_by_their_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 300)
    module, other = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 9)), nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 9))
    save_module(tmp_path, module, {"kind": "thing"})
    names = sorted(p.name for p in tmp_path.glob("*.safetensors"))
    assert names == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    load_weights(other, tmp_path / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    (tmp_path / names[0]).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_weights(other, tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ('{"weight_map": {"weight": "../elsewhere.safetensors"}}', "files of its own folder"),
        ('{"weight_map": {"weight": "pickled.bin"}}', "a pickle can run code"),
        ('{"weight_map": ["a"]}', "no index of weights"),
        ("{}", "no index of weights"),
        ("", "no index of weights"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path, index: str, said: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=said):
        load_weights(nn.Linear(1, 1), tmp_path / "model.safetensors")


def test_averages_leave_frozen_parameters_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    ema = Ema(module, 0.5)
    assert sorted(ema.values) == ["1.bias", "1.weight"]
