"""The ablation's statistics, and a whole tiny run that is resumed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation
from fetalflex.dataset import Cases
from tests.fetalflex import tiny


def test_the_interval_covers_what_trainings_and_patients_do() -> None:
    random = np.random.default_rng(0)
    patients = np.repeat([f"p{i}" for i in range(20)], 3)
    of_training, of_patient = random.normal(0.1, 0.05, (3, 1)), np.repeat(random.normal(0, 0.05, 20), 3)
    values = of_training + of_patient + random.normal(0, 0.01, (3, 60))
    whole = ablation.hierarchical(values, patients)
    assert whole.low < values.mean() < whole.high
    one_training = ablation.hierarchical(np.repeat(values[:1], 3, 0), patients)
    assert one_training.high - one_training.low < whole.high - whole.low


def test_what_is_not_asked_does_not_count() -> None:
    values = np.array([[0.5, np.nan], [0.7, np.nan]])
    assert ablation.hierarchical(values, np.array(["a", "b"])).value == pytest.approx(0.6)


@pytest.mark.slow
def test_a_finished_training_is_kept_and_the_table_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = tiny.cases(12)
    groups = np.array(["train"] * 8 + ["test"] * 4)
    Cases(**{**vars(cases), "groups": groups}).save(tmp_path / "cases.npz")
    for role in ("guide", "judge"):
        tiny.segmenter(role).save(tmp_path / "models" / role)
    command = [
        "ablation", str(tmp_path), "--cases", str(tmp_path / "cases.npz"), "--out", str(tmp_path / "out"),
        "--seeds", "0", "1", "--steps", "3", "--prealign-steps", "2", "--channels", "32", "64", "--images", "4",
        "--no-kid", "--prealign", '{"batch_size": 4, "embedding": 32, "hidden": 8}',
        "--train", '{"batch_size": 4, "warmup_steps": 2}',
        "--sample", '{"budget": 2, "coarse_steps": 2, "agreement": 0.0}',
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    ablation.main()
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.splitlines()[-1].startswith("| with - without | ")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["further_steps"] == int(np.ceil(2 * plan["ratio"]))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")}
    capsys.readouterr()
    ablation.main()
    assert (tmp_path / "out" / "table.md").read_text() == table
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.safetensors")} == before
    assert "step" not in capsys.readouterr().out.split("trainings each")[0]
    monkeypatch.setattr(sys, "argv", [*command, "--steps", "4"])
    with pytest.raises(SystemExit, match="other parameters or cases"):
        ablation.main()
