"""The results page of a study, and its answers as CSV."""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isnan
from typing import Any

from jinja2 import Environment, StrictUndefined

from fetalflex.reader_study import power, statistics
from fetalflex.reader_study.figures import accuracy_chart, likert_chart, roc_chart
from fetalflex.reader_study.statistics import Row
from fetalflex.report.page import page_style

COLUMNS = (
    "reader", "position", "image", "again", "truth", "plane", "center", "origin", "verdict", "realism",
    "plane_correct", "structures", "comment", "seconds", "role", "years",
)  # fmt: skip
_ACCURACIES, _TEAMS = (0.55, 0.60, 0.65, 0.70), (1, 3, 5)
_ASSUMED = 0.1


@dataclass(frozen=True)
class Study:
    """What is known of a study beside its answers: (pseudonym, answers, images) of each reader."""

    title: str
    images: int
    repeats: int
    seed: int
    readers: Sequence[tuple[str, int, int]]


def to_csv(rows: Sequence[Row]) -> str:
    """Return the answers as CSV. A text that a spreadsheet would take for a formula is led by an apostrophe."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: _plain(v) for k, v in row.items()})
    return out.getvalue()


def _plain(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Return all figures; nothing in it depends on a clock."""
    names = sorted({r["reader"] for r in rows})
    found = power.correlation(list(rows))
    assumed = _ASSUMED if isnan(found) else max(0.0, found)
    per_plane = {r["plane"] for r in rows}
    return {
        "accuracy": statistics.accuracy(rows), "interval": statistics.accuracy_interval(rows),
        "by_reader": statistics.by(rows, "reader"), "by_plane": statistics.by(rows, "plane"),
        "by_center": statistics.by(rows, "center"), "by_truth": statistics.by(rows, "truth"),
        "roc": {name: statistics.roc([r for r in rows if r["reader"] == name]) for name in names}
        | {"all": statistics.roc(rows)},
        "likert": statistics.likert(rows), "likert_p": statistics.likert_p(rows),
        "fleiss": {w: statistics.fleiss(rows, w) for w in ("verdict", "realism")},
        "cohen": {w: statistics.cohen(rows, w) for w in ("verdict", "realism")},
        "intra": {w: statistics.intra(rows, w) for w in ("verdict", "realism")},
        "planes": {p: _said_yes(rows, p) for p in sorted(per_plane)}, "structures": _structures(rows),
        "correlation": found, "assumed": assumed,
        "needs": [[power.images_needed(a, team, assumed) for team in _TEAMS] for a in _ACCURACIES],
        "teams": _TEAMS, "seconds": _median_seconds(rows),
    }  # fmt: skip


def render(study: Study, rows: Sequence[Row]) -> str:
    """Return the page as HTML: no file, font, script or picture from elsewhere; all text is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "percent": _percent, "p": _p_value}
    template = environment.from_string((files(__package__) / "results.html").read_text(encoding="utf-8"))
    figures = summarize(rows) if rows else None
    charts = {}
    if figures is not None:
        charts = {
            "accuracy": _embedded(accuracy_chart(figures["by_reader"], figures["accuracy"], figures["interval"])),
            "roc": _embedded(roc_chart(figures["roc"])),
            "likert": _embedded(likert_chart(figures["likert"])),
        }
    return template.render(study=study, style=page_style(), f=figures, charts=charts)


def _said_yes(rows: Sequence[Row], plane: str) -> dict[str, statistics.Share]:
    """Return how often readers said that the plane is right, of real and of synthetic images."""
    found = {}
    for truth in ("real", "synthetic"):
        said = [
            r["plane_correct"] == "yes" for r in statistics.firsts(rows) if (r["plane"], r["truth"]) == (plane, truth)
        ]
        found[truth] = statistics.share(sum(said), len(said))
    return found


def _structures(rows: Sequence[Row]) -> dict[str, dict[str, statistics.Share]]:
    """Return how often each structure was seen, of real and of synthetic images of planes where any reader saw it."""
    import json

    first = [(r, set(json.loads(r["structures"]))) for r in statistics.firsts(rows)]
    found: dict[str, dict[str, statistics.Share]] = {}
    for name in sorted({s for _, seen in first for s in seen}):
        planes = {r["plane"] for r, seen in first if name in seen}
        found[name] = {}
        for truth in ("real", "synthetic"):
            said = [name in seen for r, seen in first if r["plane"] in planes and r["truth"] == truth]
            found[name][truth] = statistics.share(sum(said), len(said))
    return found


def _median_seconds(rows: Sequence[Row]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for truth in ("real", "synthetic"):
        known = sorted(r["seconds"] for r in rows if r["truth"] == truth and r["seconds"] is not None)
        found[truth] = known[len(known) // 2] if known else None
    return found


def _embedded(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or isnan(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "–" if isnan(value) else f"{100 * value:.1f} %"


def _p_value(value: float) -> str:
    return "–" if isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
