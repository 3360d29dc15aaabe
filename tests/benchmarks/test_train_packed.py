"""The bare runner of trainings: what its time limit leaves is gone on with, and files are small."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import train_packed
from fetalflex.model.generator import Generator
from tests.fetalflex import tiny

SETTINGS = [
    "data.image_size=32", "compute.device=cpu", "compute.train_threads=1", "prealign.steps=4", "prealign.batch_size=4",
    "prealign.hidden=16", "prealign.embedding=32", "prealign.checkpoint_every=2", "train.steps=6", "train.batch_size=4",
    "train.channels=[32, 64]", "train.checkpoint_every=2", "train.warmup_steps=2",
]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, out: Path, cases: Path, preset: str, *more: str) -> None:
    command = ["train_packed", "--cases", str(cases), "--preset", preset, "--out", str(out), *more, "--set", *SETTINGS]
    monkeypatch.setattr(sys, "argv", command)
    train_packed.main()


@pytest.mark.parametrize("preset", ["base", "small"])
def test_runs_out_of_time_end_where_one_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    tiny.cases().save(tmp_path / "cases.npz")
    run(monkeypatch, tmp_path / "whole", tmp_path / "cases.npz", preset)
    stopped = 0
    while not (tmp_path / "parts" / "generator").exists() and stopped < 10:
        with contextlib.suppress(SystemExit):
            run(monkeypatch, tmp_path / "parts", tmp_path / "cases.npz", preset, "--seconds", "0")
        stopped += 1
    assert stopped >= 4
    one, two = (Generator.load(tmp_path / name / "generator") for name in ("whole", "parts"))
    pairs = zip(one.denoiser.parameters(), two.denoiser.parameters(), strict=True)
    assert all(np.array_equal(a.detach().numpy(), b.detach().numpy()) for a, b in pairs)
    assert max(p.stat().st_size for p in (tmp_path / "whole" / "generator").rglob("*")) <= 16_000_000


def test_cases_of_another_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.cases().save(tmp_path / "cases.npz")
    monkeypatch.setattr(
        sys, "argv", ["train_packed", "--cases", str(tmp_path / "cases.npz"), "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit, match="cases of 32 px; expected 256"):
        train_packed.main()
