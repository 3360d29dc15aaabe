from pathlib import Path

import pytest
import torch

from fetalflex.diffusion.train import Run, train_generator
from fetalflex.errors import ModelError
from tests.fetalflex import tiny


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


def test_finished_training_yields_its_result_again(tmp_path: Path) -> None:
    first = list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))
    again = list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))
    assert len(again) == 1
    one, two = first[-1].trained, again[0].trained
    assert one is not None
    assert two is not None
    assert all(torch.equal(a, b) for a, b in zip(one.denoiser.parameters(), two.denoiser.parameters(), strict=True))


def test_other_data_is_refused(tmp_path: Path) -> None:
    list(train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path)))
    with pytest.raises(ModelError, match="another configuration"):
        next(iter(train_generator(tiny.cases(6), tiny.aligner(), tiny.TRAIN, Run(1, tmp_path))))


def test_aligner_of_another_patch_is_refused() -> None:
    params = tiny.TRAIN.model_copy(update={"patch": 1})
    with pytest.raises(ModelError, match="patch 2"):
        next(iter(train_generator(tiny.cases(), tiny.aligner(), params, Run(1))))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_falls(precision: str) -> None:
    params = tiny.TRAIN.model_copy(update={"steps": 40, "batch_size": 8, "learning_rate": 2e-3, "precision": precision})
    losses = [s.loss for s in train_generator(tiny.cases(), tiny.aligner(), params, Run(1))]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_result_holds_averaged_weights_and_the_aligners_centers() -> None:
    trained = tiny.generator()
    assert trained.vocabulary == ("not-stated", "far", "near")
    assert trained.size == tiny.SIZE
    assert not trained.denoiser.training
