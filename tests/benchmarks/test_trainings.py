"""Arms over several trainings: the pairs are taken within a training, and what is kept is used again."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sampling, trainings
from fetalflex.diffusion.train import Run, train_generator
from tests.fetalflex import tiny


class Distances:
    """KID that needs no Inception: the images' mean grey."""

    real = None

    def __init__(self, world: sampling.World) -> None:
        pass

    def kid(self, arm: sampling.Arm) -> float:
        return float(arm.images.mean()) / 1000

    of = kid


def test_an_arm_spends_the_whole_budget_but_where_told() -> None:
    assert trainings.parse_arm("two guidance=1.5")[1].agreement == 1.0
    name, params = trainings.parse_arm("one coarse_steps=20 agreement=0.0")
    assert (name, params.coarse_steps, params.agreement) == ("one", 20, 0.0)


def test_differences_are_taken_within_each_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tiny.cases(3)
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path / f"g{seed}")
        trained = [s.trained for s in train_generator(tiny.cases(), tiny.aligner(), tiny.TRAIN, Run(seed))][-1]
        assert trained is not None
        trained.save(folders[-1])
    world = sampling.World(
        tiny.generator(), tiny.segmenter(), tiny.segmenter("judge"), cases, cases, tmp_path, sampling.Sample()
    )
    monkeypatch.setattr(sampling, "load_world", lambda *_: world)
    monkeypatch.setattr(sampling, "Distances", Distances)
    monkeypatch.setattr(
        trainings, "kid_difference", lambda _, pairs: sampling.Interval(float(np.mean([a - b for a, b in pairs])), 0, 0)
    )
    command = [
        "trainings", str(tmp_path), *map(str, folders), "--keep", str(tmp_path), "--arm", "one budget=2 coarse_steps=2 "
        "agreement=0.0", "--arm", "boxes budget=2 coarse_steps=2 agreement=0.0", "--pair", "boxes-one",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    trainings.main()
    first = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line.split("|") for line in first.splitlines() if line.startswith("| ")}
    head = {name: float(rows[name][3]) for name in ("one", "boxes")}
    assert float(rows["**boxes - one**"][3].split("(")[0]) == pytest.approx(head["boxes"] - head["one"], abs=2e-3)
    each = {name: rows[name][7].split("(")[1].rstrip(") ").split(",") for name in ("one", "boxes")}
    assert len(each["one"]) == 2
    assert each["one"][0] != each["one"][1]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    assert len(before) == 4
    trainings.main()
    assert capsys.readouterr().out == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")} == before
