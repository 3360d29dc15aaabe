import time
from pathlib import Path

import pytest
import torch
from torch import nn

from fetalflex.errors import ModelError
from fetalflex.model.checkpoint import NAME
from fetalflex.model.loop import Loop, Plan, check_device, open_devices, training_precision


def loop(folder: Path | None = None, steps: int = 6, digest: str = "d") -> Loop:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([module.weight], lr=1.0)
    return Loop(module, optimizer, Plan(steps, 0.1, 2, 2, digest, folder))


def learn(running: Loop, until: int) -> list[float]:
    def loss(step: int) -> torch.Tensor:
        return running.module(torch.full((1, 3), 4.0 * (step + 1))).square().sum()

    return [running.update(step, loss(step)) for step in running.remaining()[: until - running.done]]


def test_a_loop_goes_on_from_its_last_checkpoint_bit_identical(tmp_path: Path) -> None:
    whole, broken = loop(), loop(tmp_path)
    learn(whole, 6)
    learn(broken, 5)  # one step beyond the checkpoint of step 4
    resumed = loop(tmp_path)
    assert (resumed.done, list(resumed.remaining())) == (4, [4, 5])
    learn(resumed, 6)
    assert torch.equal(whole.module.weight, resumed.module.weight)
    assert loop(tmp_path).done == 6


def test_a_loop_without_a_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learn(loop(), 6)
    assert list(tmp_path.iterdir()) == []


def test_a_loop_of_another_plan_is_refused(tmp_path: Path) -> None:
    learn(loop(tmp_path), 2)
    assert (tmp_path / NAME).is_file()
    with pytest.raises(ModelError, match="another configuration"):
        loop(tmp_path, digest="e")


def test_the_rate_rises_and_gradients_are_told_before_clipping_and_clipped() -> None:
    running = loop()
    weight = running.module.weight.detach().clone()
    norms = learn(running, 1)
    assert norms[0] > 1.0
    gradient = running.module.weight.grad
    assert gradient is not None
    assert float(gradient.norm()) == pytest.approx(1.0, rel=1e-4)
    assert running.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert not torch.equal(running.module.weight, weight)
    assert running.module.bias.grad is None


def test_devices_may_change_their_precision_between_trainings() -> None:
    assert open_devices("cpu", "bf16").mixed_precision == "bf16"
    assert open_devices("cpu", "fp32").mixed_precision == "no"


def processor(monkeypatch: pytest.MonkeyPatch, *, bf16: bool) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bf16)


@pytest.mark.parametrize("wanted", ["auto", "bf16"])
def test_a_processor_that_computes_in_bf16_does(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    processor(monkeypatch, bf16=True)
    assert training_precision(wanted, "cpu") == "bf16"
    assert training_precision("fp32", "cpu") == "fp32"


def test_a_processor_without_bf16_computes_in_fp32_and_refuses_to_crawl(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, bf16=False)
    assert training_precision("auto", "cpu") == "fp32"
    with pytest.raises(ModelError, match=r"this machine's processor does not compute in it; expected auto or fp32"):
        training_precision("bf16", "cpu")


def test_bf16_is_chosen_where_it_is_no_slower() -> None:
    """The library's word on this processor, beside a stopwatch: reference kernels would take some 20 times as long."""
    layer, images = torch.nn.Conv2d(64, 64, 3, padding=1), torch.randn(2, 64, 32, 32)

    def seconds(*, bf16: bool) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            start = time.process_time()
            layer(images)
            return time.process_time() - start

    taken = {bf16: min(seconds(bf16=bf16) for _ in range(4)) for bf16 in (False, True)}
    assert (training_precision("auto", "cpu") == "bf16") == (taken[True] < 5 * taken[False])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_no_silent_cpu() -> None:
    with pytest.raises(ModelError, match="torch sees no GPU here"):
        check_device("cuda")
    with pytest.raises(ModelError, match="torch sees no GPU here"):
        open_devices("cuda", "bf16")
    with pytest.raises(ModelError, match="torch sees no GPU here"):
        training_precision("auto", "cuda")
