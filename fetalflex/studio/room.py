"""What all answers of the studio share: its model, its sittings, its worker, and the forms of what the page sends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Cookie
from pydantic import BaseModel, Field

from fetalflex.studio import starts, view
from fetalflex.studio.desk import MOST_POINTS
from fetalflex.studio.sitting import Sitting, Sittings
from fetalflex.studio.work import Worker
from fetalflex.synthesis.models import Model
from fetalflex.synthesis.requests import Draw

COOKIE = "fetalflex_sitting"
Finite = Annotated[float, Field(allow_inf_nan=False)]
SittingId = Annotated[str | None, Cookie(alias=COOKIE)]


@dataclass(frozen=True, eq=False)
class Studio:
    """What a studio serves: a model, what layouts are drawn from, the dataset's cases where there is one.

    `model_name`: what `--model` was given, None for a workspace's own model.
    """

    model: Model
    draw: Draw
    planes: tuple[str, ...]
    cases: starts.Cases | None = None
    model_name: str | None = None


class Room:
    """A running studio."""

    def __init__(self, studio: Studio) -> None:
        """Start its worker."""
        self.studio, self.model = studio, studio.model
        self.worker = Worker(studio.model)
        self.sittings = Sittings(self.worker.forget)
        self.sha256 = studio.model.sha256()

    def state(self, sitting: Sitting) -> dict[str, Any]:
        """Return what the page shows of a sitting."""
        return view.state(sitting, self.model)

    def change(self, sitting_id: str | None, change: Callable[[Sitting], None]) -> dict[str, Any]:
        """Change a sitting and return what the page then shows."""
        sitting = self.sittings.find(sitting_id)
        with sitting.lock:
            change(sitting)
            return self.state(sitting)


class Start(BaseModel):
    """How to begin."""

    plane: str | None = None
    center: str | None = None
    age_weeks: Finite | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    case: str | None = None


class Edit(BaseModel):
    """One change of the layout."""

    op: Literal["transform", "delete", "add", "paint", "anomalies", "set"]
    index: int = 0
    matrix: Annotated[list[Finite], Field(min_length=6, max_length=6)] = [1, 0, 0, 1, 0, 0]
    absent: bool = False
    structure: str = ""
    points: Annotated[list[tuple[Finite, Finite]], Field(max_length=MOST_POINTS)] = []
    radius: Finite = 0
    erase: bool = False
    anomalies: Annotated[list[tuple[str, Finite]], Field(max_length=8)] = []
    merge: bool = False
    center: str | None = None
    age_weeks: Finite | None = None


class Make(BaseModel):
    """What to make of the desk."""

    kind: Literal["generate", "counterfactual"]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
