"""What of the parameters says which images are made: the anomalies that are asked, and where layouts come from."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fetalflex.anatomy.severities import KINDS, together_fault
from fetalflex.params_training import Section

LayoutSource = Literal["varied", "statistics", "mixed"]


class Anomaly(Section):
    """One anomaly that is asked (`name`), or two at once (`together`: two names that have entries of their own).

    `severity`: the range that is drawn from, in the anomaly's unit (docs/layouts.md), its whole range where it is left
    out. `weight`: its share of the abnormal images and pairs; 0 for an entry that only says a range for `together`.
    """

    name: str | None = None
    together: tuple[str, str] | None = None
    severity: tuple[float, float] | None = None
    weight: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _is_known(self) -> "Anomaly":
        if (self.name is None) == (self.together is None):
            raise ValueError("an anomaly has exactly one of name and together")
        for name in self.names:
            if name not in KINDS:
                raise ValueError(f"anomaly {name!r} is unknown; expected one of {', '.join(sorted(KINDS))}")
        if self.together is not None:
            fault = together_fault(*self.together)
            if fault is not None:
                raise ValueError(f"{' and '.join(self.together)} cannot be together: {fault}")
            if self.severity is not None:
                raise ValueError("together takes its severities from the entries of its two anomalies; found one more")
        elif self.severity is not None:
            self._check_severity(self.names[0], self.severity)
        return self

    def _check_severity(self, name: str, asked: tuple[float, float]) -> None:
        low, high = KINDS[name].severity
        if not low <= asked[0] <= asked[1] <= high:
            wanted = f"{low:g} to {high:g}" if low < high else f"{low:g} (there or not)"
            raise ValueError(
                f"severity of {name} must be two rising numbers within {wanted} {KINDS[name].unit}; found "
                f"[{asked[0]:g}, {asked[1]:g}]"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The anomalies that this entry makes, one or two."""
        return self.together if self.together is not None else (self.name or "",)


def check_anomalies(anomalies: Iterable[Anomaly]) -> str | None:
    """Return what is wrong with a list of anomalies, or None: names stand once, `together` names entries."""
    asked = list(anomalies)
    single = [a.name for a in asked if a.name is not None]
    twice = sorted({name for name in single if single.count(name) > 1})
    if twice:
        return f"anomalies: {twice[0]} stands there more than once"
    for item in asked:
        for name in item.together or ():
            if name not in single:
                return f"anomalies: together names {name}, which has no entry of its own (weight 0 says a range alone)"
    return None if any(a.weight > 0 for a in asked) else "anomalies: no weight is above 0"


def severity_range(anomalies: Iterable[Anomaly], name: str) -> tuple[float, float]:
    """Return the range of an anomaly's severity: that of its entry, else the whole range that it can have."""
    found = next((a.severity for a in anomalies if a.name == name), None)
    return found if found is not None else KINDS[name].severity
