import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fetalflex.errors import ModelError, TooFewCasesError
from fetalflex.model.layout_encoder import LayoutEncoder
from fetalflex.model.loop import Where
from fetalflex.model.prealign import Aligner, new_aligner, train_aligner, train_probe
from fetalflex.model.retrieval import retrieve
from tests.fetalflex import tiny


def test_resumed_training_is_bit_identical(tmp_path: Path) -> None:
    whole = list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, Where(tmp_path / "whole")))
    broken = train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, Where(tmp_path / "broken"))
    assert [next(broken).step, next(broken).step] == [1, 2]
    broken.close()  # type: ignore[attr-defined]
    rest = list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, Where(tmp_path / "broken")))
    assert [s.step for s in rest] == [3]
    assert rest[-1].loss == whole[-1].loss
    assert tiny.weights(tmp_path / "whole") == tiny.weights(tmp_path / "broken")


def test_a_finished_training_yields_its_result_again(tmp_path: Path) -> None:
    list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, Where(tmp_path)))
    again = list(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1, Where(tmp_path)))
    assert len(again) == 1
    assert again[0].trained is not None


def test_training_aligns_layouts_with_their_images() -> None:
    params = tiny.PREALIGN.model_copy(update={"steps": 120, "batch_size": 8, "learning_rate": 3e-3})
    steps = list(train_aligner(tiny.cases(16), params, 2, 1))
    assert steps[-1].loss < 0.7 * steps[0].loss
    assert steps[-1].appearance < 0.5 * steps[0].appearance
    trained = steps[-1].trained
    assert trained is not None
    found = retrieve(trained, tiny.cases(16), seed=0, candidates=8)
    assert found["layout_to_image_r1"].rate.low > found["layout_to_image_r1"].chance
    assert found["token_to_region_r1"].rate.low > found["token_to_region_r1"].chance


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


def test_an_aligner_of_before_the_wider_encoder_is_still_read(tmp_path: Path) -> None:
    former = {"region_grid": 2, "region_margin": 0.0, "image_blocks": 0}
    params = tiny.PREALIGN.model_copy(update=former)
    new_aligner(tiny.cases(), params, 2, 1).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["params"] = {k: v for k, v in config["params"].items() if k not in {*former, "same_structure"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Aligner.load(tmp_path).params.image_blocks == 0


def test_a_probe_leaves_its_layout_encoder_as_it_is() -> None:
    encoder = tiny.generator().denoiser.layout_encoder
    steps = list(train_probe(tiny.cases(), tiny.PREALIGN, encoder, tiny.generator().vocabulary, 1))
    trained = steps[-1].trained
    assert trained is not None
    own = encoder.state_dict()
    assert all(torch.equal(own[k], v) for k, v in trained.layout_encoder.state_dict().items())
    begun = new_aligner(tiny.cases(), tiny.PREALIGN, 2, 1)
    assert not torch.equal(trained.region_layout.weight, begun.region_layout.weight)


def test_a_probe_of_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match="width 32 and hidden 8; found 64 and 8"):
        next(iter(train_probe(tiny.cases(), tiny.PREALIGN, LayoutEncoder((28, 9, 3), 64, 2, 8), ("a",), 1)))


def test_no_cases_are_refused() -> None:
    with pytest.raises(TooFewCasesError):
        list(train_aligner(tiny.cases(0), tiny.PREALIGN, 2, 1))


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(iter(train_aligner(tiny.cases(), tiny.PREALIGN, 2, 1)))
    assert torch.equal(torch.get_rng_state(), before)
