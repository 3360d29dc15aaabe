import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fetalflex.errors import ModelError, TooFewCasesError
from fetalflex.model.prealign import Aligner, retrieval, train_aligner
from tests.fetalflex import tiny


def test_resumed_training_is_bit_identical(tmp_path: Path) -> None:
    whole = list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, tmp_path / "whole"))
    broken = train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, tmp_path / "broken")
    assert [next(broken).step, next(broken).step] == [1, 2]
    broken.close()  # type: ignore[attr-defined]
    rest = list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, tmp_path / "broken"))
    assert [s.step for s in rest] == [3]
    assert rest[-1].loss == whole[-1].loss
    assert tiny.weights(tmp_path / "whole") == tiny.weights(tmp_path / "broken")


def test_a_finished_training_yields_its_result_again(tmp_path: Path) -> None:
    list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, tmp_path))
    again = list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, tmp_path))
    assert len(again) == 1
    assert again[0].trained is not None


def test_training_aligns_layouts_with_their_images() -> None:
    params = tiny.PREALIGN.model_copy(update={"steps": 60, "batch_size": 8, "learning_rate": 3e-3})
    steps = list(train_aligner(tiny.cases(16), params, 2, 1))
    assert steps[-1].loss < 0.7 * steps[0].loss
    assert steps[-1].appearance < 0.5 * steps[0].appearance
    trained = steps[-1].trained
    assert trained is not None
    assert retrieval(trained, tiny.cases(16), 8)["region_r1"] > 2 / 16


def test_loaded_aligner_embeds_as_the_saved_one(tmp_path: Path) -> None:
    aligner = tiny.aligner()
    aligner.save(tmp_path)
    images = tiny.cases().images
    features = Aligner.load(tmp_path).image_features(images)
    assert np.array_equal(features, aligner.image_features(images))
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert np.array_equal(aligner.image_features(images[2:3])[0], features[2])


def test_broken_config_is_refused(tmp_path: Path) -> None:
    tiny.aligner().save(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"hidden": 8', '"hiden": 8'))
    with pytest.raises(ModelError, match="none of this version"):
        Aligner.load(tmp_path)


def test_retrieval_of_too_few_cases_is_not_a_number() -> None:
    assert math.isnan(retrieval(tiny.aligner(), tiny.cases(2))["image_r1"])


def test_no_cases_are_refused() -> None:
    with pytest.raises(TooFewCasesError):
        list(train_aligner(tiny.cases(0), tiny.PREALIGN, 2, 1))


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(iter(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1)))
    assert torch.equal(torch.get_rng_state(), before)
