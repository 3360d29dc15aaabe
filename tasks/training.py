"""Drives a library's training loop: progress, the loss curve that survives a kill, metrics to MLflow."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fetalflex.artifacts import write_json
from tasks.progress import bar
from tasks.tracking import Tracker

_Trained = TypeVar("_Trained", covariant=True)
_Result = TypeVar("_Result")


class Step(Protocol[_Trained]):
    """What a training loop yields: a dataclass with `step` counted from 1, `loss`, and `trained` on the last one."""

    @property
    def step(self) -> int:
        """Steps done so far."""

    @property
    def loss(self) -> float:
        """The step's loss; NaN where nothing was left to do."""

    @property
    def trained(self) -> _Trained | None:
        """The result, on the last step alone."""


def drive(
    steps: Iterable[Step[_Result]], total: int, label: str, curve: Path, tracker: Tracker | None = None
) -> _Result:
    """Run a training to its end and return what was trained.

    Every step's numbers are appended to `curve` (JSON lines). After a kill some steps come twice, with the same
    numbers; `read_curve` takes the later.
    """
    result: _Result | None = None
    with bar(label, total) as shown, curve.open("a") as out:
        out.write("\n")  # a kill may have cut the last line: the next must not run into it
        for step in steps:
            numbers = _numbers(step)
            if math.isfinite(step.loss):
                out.write(json.dumps(numbers) + "\n")
                out.flush()
                if tracker is not None:
                    tracker.metrics({k: v for k, v in numbers.items() if k != "step"}, step.step)
            shown.advance(step.step - shown.done, f"loss {step.loss:.4f}")
            result = step.trained
    if result is None:
        raise RuntimeError(f"{label}: the training loop ended without a result")
    return result


def _numbers(step: Any) -> dict[str, float]:
    values = {name: getattr(step, name) for name in step.__dataclass_fields__ if name != "trained"}
    return {k: v for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}


def read_curve(curve: Path) -> list[dict[str, float]]:
    """Return a curve's steps in order, each once; a line cut by a kill is left out, its step comes again."""
    found: dict[int, dict[str, float]] = {}
    for line in curve.read_text().splitlines() if curve.is_file() else []:
        if line.startswith("{") and line.endswith("}"):
            numbers = json.loads(line)
            found[int(numbers["step"])] = numbers
    return [found[step] for step in sorted(found)]


def write_curve(curve: Path, target: Path) -> None:
    """Write the whole curve as one JSON file beside the model."""
    write_json(target, read_curve(curve))
