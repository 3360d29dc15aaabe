"""The page of two releases side by side: one self-contained HTML file."""

import base64
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from fetalflex.release.diff import Diff
from fetalflex.report.page import page_style


def render(diff: Diff, sheets: tuple[bytes | None, bytes | None]) -> str:
    """Return the page. `sheets`: both releases' sheets as PNG, None where there is none."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": figure, "value": value}
    template = environment.from_string((files("fetalflex.release") / "diff.html").read_text(encoding="utf-8"))
    coded = (base64.b64encode(sheet).decode() if sheet else "" for sheet in sheets)
    return template.render(
        d=diff,
        style=page_style(),
        moved=sum(a != b for a, b in diff.counts.values()),
        apart=sum(f.verdict == "apart" for f in diff.figures),
        sheets=list(zip((diff.before, diff.after), coded, strict=True)),
    )


def figure(found: tuple[float, float | None, float | None] | None) -> str:
    """Return a figure with its interval.

    >>> figure((0.5, 0.4, 0.6))
    '0.5 (0.4 to 0.6)'
    """
    if found is None:
        return "not measured"
    number, low, high = found
    return f"{number:.3g}" if low is None or high is None else f"{number:.3g} ({low:.3g} to {high:.3g})"


def value(found: Any) -> str:
    """Return a parameter's value as text; None where it did not exist."""
    return "-" if found is None else json.dumps(found)
