"""The benchmark of cost measures what it says."""

import numpy as np
import pytest

from benchmarks.quality_cost import Lap, clock, features, forward_only, side
from fetalflex.quality.features.encoder import CallableEncoder
from tests.fetalflex import tiny


def test_a_block_is_timed():
    with clock() as lap:
        sum(range(200_000))
    assert isinstance(lap, Lap)
    assert lap.wall > 0
    assert lap.cpu > 0


def test_the_forward_passes_alone_see_every_image_once():
    seen = []

    def function(x):
        seen.append(len(x))
        return x.flatten(1)[:, :3]

    forward_only(CallableEncoder("own", function, batch=4), np.zeros((10, 16, 16), np.uint8))
    assert sum(seen) == 10


def test_sides_hold_five_images_a_patient():
    made = side(20, 1, 0.0)
    assert len(np.unique(made.clusters)) == 4
    assert made.features["inception"].shape == (20, 2048)


def test_a_second_reading_makes_no_forward_pass(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.quality_cost.ENCODERS", ("aligner",))
    tiny.aligner().save(tmp_path / "models" / "aligner")
    monkeypatch.setattr("benchmarks.quality_cost.SIDE", tiny.SIZE)
    features(tmp_path, 8)
    assert capsys.readouterr().out.startswith("aligner: own")


def test_an_encoder_that_is_asked_again_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("fetalflex.quality.features.cache.CachedEncoder._list", lambda _: None)
    monkeypatch.setattr("benchmarks.quality_cost.ENCODERS", ("texture",))
    with pytest.raises(SystemExit, match="expected 0"):
        features(tmp_path, 4)
