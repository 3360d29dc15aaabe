"""Curves survive a kill, whatever the last line looks like."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.training import drive, read_curve


@dataclass(frozen=True)
class _Step:
    step: int
    loss: float
    trained: str | None = None


def test_a_curve_that_was_cut_goes_on_without_doubles(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"
    curve.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "lo')
    steps = [_Step(2, 2.0), _Step(3, 1.0, "model")]
    assert drive(steps, 3, "t", curve) == "model"
    assert read_curve(curve) == [{"step": s, "loss": v} for s, v in ((1, 3.0), (2, 2.0), (3, 1.0))]


def test_a_line_that_was_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"
    curve.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
    drive([_Step(2, 2.0, "model")], 2, "t", curve)
    assert [s["step"] for s in read_curve(curve)] == [1, 2]


def test_a_loop_without_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="without a result"):
        drive([_Step(1, 1.0)], 1, "t", tmp_path / "curve.jsonl")
