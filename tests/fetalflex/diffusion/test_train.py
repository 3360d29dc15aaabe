import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fetalflex.diffusion import train
from fetalflex.diffusion.train import Batches, Objective, Run, new_backbone, train_generator
from fetalflex.errors import ModelError
from fetalflex.model.batches import to_signal
from fetalflex.model.checkpoint import read_tensors
from fetalflex.model.denoiser import BLACK, Denoiser
from fetalflex.model.loop import training_precision
from tests.fetalflex import tiny

ROOT = Path(__file__).resolve().parents[3]
PRECISIONS = [
    "fp32",
    pytest.param(
        "bf16",
        marks=pytest.mark.skipif(
            training_precision("auto", "cpu") == "fp32", reason="this processor does not compute in bf16"
        ),
    ),
]


def test_interrupted_training_resumes_bit_identical(tmp_path: Path) -> None:
    whole = list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path / "whole")))
    broken = train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path / "broken"))
    for _ in range(3):  # one step beyond the checkpoint of step 2: it is done again
        next(broken)
    broken.close()  # type: ignore[attr-defined]
    rest = list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path / "broken")))
    assert [s.step for s in rest] == [3, 4]
    assert [s.loss for s in rest] == [s.loss for s in whole[2:]]
    assert tiny.weights(tmp_path / "whole") == tiny.weights(tmp_path / "broken")
    results = [s.trained.denoiser.state_dict() for s in (whole[-1], rest[-1]) if s.trained]
    assert all(torch.equal(results[0][k], results[1][k]) for k in results[0])


def test_training_images_keep_the_power_of_speckle() -> None:
    """Moved by parts of a pixel, they had a third of it above 22 cycles per image, and so had what was generated."""
    cases = tiny.cases()
    noise = np.random.default_rng(0).integers(0, 256, cases.images.shape).astype(np.uint8)
    backbone, _ = new_backbone(cases.size, tiny.aligner(), tiny.TRAIN, 1)
    batches = Batches(replace(cases, images=noise), tiny.aligner().vocabulary, tiny.TRAIN, 1, backbone)
    inner = slice(8, -8)  # what is moved in is black
    drawn = torch.cat([batches.draw(step).clean for step in range(8)])[:, 0, inner, inner]
    steps = {name: values.diff(dim=-1).square().mean() for name, values in
             (("drawn", drawn), ("noise", to_signal(noise)[:, 0, inner, inner]))}  # fmt: skip
    assert float(steps["drawn"] / steps["noise"]) == pytest.approx(1, abs=0.05)


def test_black_of_training_images_lies_below_the_darkest_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, _ = new_backbone(tiny.SIZE, tiny.aligner(), tiny.TRAIN, 1)
    batch = Batches(tiny.cases(), tiny.aligner().vocabulary, tiny.TRAIN, 1, denoiser).draw(0)
    seen = []
    predict = Denoiser.predict

    def noted(self: Denoiser, x: torch.Tensor, *args: object) -> torch.Tensor:
        seen.append(x)
        return predict(self, x, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Denoiser, "predict", noted)
    Objective(denoiser)(replace(batch, t=torch.zeros_like(batch.t)))  # at time 0 there is no noise
    black = batch.clean == -1
    assert black.any()
    assert torch.equal(seen[0][~black], batch.clean[~black])
    assert torch.equal(seen[0][black], torch.full_like(batch.clean[black], BLACK))


def test_finished_training_yields_its_result_again(tmp_path: Path) -> None:
    first = list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))
    again = list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))
    assert len(again) == 1
    one, two = first[-1].trained, again[0].trained
    assert one is not None
    assert two is not None
    assert all(torch.equal(a, b) for a, b in zip(one.denoiser.parameters(), two.denoiser.parameters(), strict=True))


def test_checkpoint_of_another_black_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))
    monkeypatch.setattr(train, "BLACK", -1.0)
    with pytest.raises(ModelError, match="another configuration"):
        next(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))


def test_other_data_is_refused(tmp_path: Path) -> None:
    list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))
    with pytest.raises(ModelError, match="another configuration"):
        next(iter(train_generator(tiny.cases(6), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path))))


def test_a_checkpoint_of_another_precision_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in ("fp32", "bf16"):  # `auto` on two kinds of machines
        monkeypatch.setattr(train, "training_precision", lambda wanted, device, found=precision: found)
        steps = train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path))
        if precision == "fp32":
            list(steps)
        else:
            with pytest.raises(ModelError, match="another configuration"):
                next(iter(steps))


def test_aligner_of_another_patch_is_refused() -> None:
    params = tiny.TRAIN.model_copy(update={"patch": 1})
    with pytest.raises(ModelError, match="patch 2"):
        next(iter(train_generator(tiny.cases(), tiny.aligner(), params, Run(1))))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_loss_falls(precision: str) -> None:
    params = tiny.TRAIN.model_copy(update={"steps": 40, "batch_size": 8, "learning_rate": 2e-3, "precision": precision})
    losses = [s.loss for s in train_generator(tiny.cases(), tiny.aligner(), params, Run(1))]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_result_holds_averaged_weights_and_the_aligners_centers() -> None:
    trained = tiny.generator()
    assert trained.vocabulary == ("not-stated", "far", "near")
    assert trained.size == tiny.SIZE
    assert not trained.denoiser.training


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradient_checkpointing_changes_no_weight(tmp_path: Path, precision: str) -> None:
    weights = []
    for again in (False, True):
        params = tiny.TRAIN.model_copy(update={"gradient_checkpointing": again, "precision": precision})
        list(train_generator(tiny.cases(), tiny.aligner(), params, Run(1, tmp_path / str(again))))
        weights.append(tiny.weights(tmp_path / str(again)))
    assert weights[0] == weights[1]


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    class Three:
        num_processes, process_index = 3, 1

    batch = Batches(tiny.cases(), tiny.aligner().vocabulary, tiny.TRAIN, 1, tiny.generator().denoiser).draw(0)
    with pytest.raises(ModelError, match="batch_size 4 cannot be shared by 3 processes"):
        batch.share(Three())  # type: ignore[arg-type]


def test_processes_share_a_batch_without_a_rest() -> None:
    batches = Batches(tiny.cases(), tiny.aligner().vocabulary, tiny.TRAIN, 1, tiny.generator().denoiser)

    class Of:
        num_processes = 2

        def __init__(self, index: int) -> None:
            self.process_index = index

    whole, parts = batches.draw(3), [batches.draw(3).share(Of(i)) for i in range(2)]  # type: ignore[arg-type]
    for name in ("clean", "noise", "t"):
        both = torch.stack([getattr(p, name) for p in parts], 1).flatten(0, 1)
        assert torch.equal(both, getattr(whole, name))


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """Each takes half of every batch; gradients are averaged by accelerate, so only the last bits may differ."""
    params = tiny.TRAIN.model_copy(update={"precision": "fp32"})
    list(train_generator(tiny.cases(), tiny.aligner(), params, Run(1, tmp_path / "one")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "from pathlib import Path; from tests.fetalflex import tiny; "
        "from fetalflex.diffusion.train import Run, train_generator; "
        "params = tiny.TRAIN.model_copy(update={'precision': 'fp32'}); "
        f"list(train_generator(tiny.cases(), tiny.aligner(), params, Run(1, Path({str(tmp_path / 'two')!r}))))"
    )
    running = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        environment = os.environ | place | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        running.append(subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT))
    assert [p.wait(timeout=300) for p in running] == [0, 0]
    one, two = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[k], two[k], rtol=1e-3, atol=1e-4) for k in one if k.startswith("ema."))
