"""`reports/quality.html`: best and worst images by every score, distributions, control, copies, every figure, the gate.

One file without a clock, nothing from elsewhere. Where every center is simulated no image is called real.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fetalflex.quality.gate_metrics import RELEASE_METRICS
from fetalflex.report.figures import Grey, outlines
from fetalflex.report.page import NearestView, environment, legend_of, page_style, panel, say_simulated
from fetalflex.report.quality.charts import control_bars, distribution, feature_map, found_bars

Row = Mapping[str, Any]
Array = npt.NDArray[Any]
LOOKS: dict[str, tuple[str, str]] = {
    "brightness": ("Brightness", "mean grey level in the sector"),
    "contrast": ("Contrast", "deviation of grey levels in the sector"),
    "nakagami_shape": ("Speckle: Nakagami shape", "1: fully developed speckle"),
    "speckle_size_across": ("Speckle: width", "pixels"),
    "speckle_size_along": ("Speckle: height", "pixels"),
    "sector_area": ("Sector", "share of the image"),
    "sector_asymmetry": ("Sector: tilt", "share of the image that differs from its mirror image"),
    "saturation": ("White pixels", "share of the sector"),
}
CONTROL: dict[str, str] = {
    "dice": "Dice, 1: as asked",
    "boundary_mm": "Distance of outlines, mm",
    "asked_but_absent": "Asked, not seen: share",
    "absent_but_present": "Asked away, still seen: share",
    "size_error": "Sizes: median error, mm (a ratio has no unit)",
}
_WHERE = ("plane", "center", "anomaly")


@dataclass(frozen=True, eq=False)
class ScoredView:
    """A synthetic image with its asked layout [K, S, S], a score of it as text, and what else is said of it.

    `place`: plane, center and anomaly, those that it has.
    """

    image: Grey
    maps: Array
    image_id: str
    place: Sequence[str]
    value: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The images at both ends and in the middle of one score. `asked`: the layout is drawn over the image."""

    title: str
    told: str
    best: Sequence[ScoredView]
    median: Sequence[ScoredView]
    worst: Sequence[ScoredView]
    asked: bool = False


@dataclass(frozen=True, eq=False)
class QualityContext:
    """What the page shows. `tables`: `quality.plots` by name. `simulated`: every center is a phantom."""

    preset: str
    quality: Row
    gate: Row | None = None
    rankings: Sequence[Ranking] = ()
    nearest: Sequence[NearestView] = ()
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    simulated: bool = False


def render_quality(context: QualityContext) -> str:
    """Return the page as HTML; all text is escaped."""
    metrics = context.quality["metrics"]
    shown = [_ranking(r) for r in context.rankings]
    html = (
        environment()
        .get_template("quality/template.html")
        .render(
            c=context,
            style=page_style(),
            overall=[row for row in metrics if not any(key in row for key in _WHERE)],
            groups=[(key, [row for row in metrics if key in row]) for key in _WHERE],
            meanings=_meanings(metrics),
            rankings=shown,
            legend=legend_of([v.maps for r in context.rankings if r.asked for v in (*r.best, *r.median, *r.worst)]),
            looks=_looks(context.tables),
            control=_control(metrics),
            canaries=_canaries(context.quality),
            nearest=[_nearest(item) for item in context.nearest],
            warnings=_warnings(metrics),
        )
    )
    return say_simulated(html) if context.simulated else html


def _ranking(ranking: Ranking) -> dict[str, Any]:
    return {"title": ranking.title, "told": ranking.told, "rows": [
        (name, [_scored(view, asked=ranking.asked) for view in views])
        for name, views in (("Best", ranking.best), ("Median", ranking.median), ("Worst", ranking.worst))
    ]}  # fmt: skip


def _scored(view: ScoredView, *, asked: bool) -> dict[str, Any]:
    shapes = outlines(view.maps) if asked else ()
    return {
        "view": view,
        "panel": panel(view.image, f"Synthetic image {view.image_id[:8]}: {', '.join(view.place)}", shapes),
    }


def _looks(tables: Mapping[str, Sequence[Row]]) -> list[tuple[str, str]]:
    found = []
    if tables.get("features"):
        title = "Main directions of the features"
        found.append((title, _base64(feature_map(tables["features"], title))))
    if tables.get("image_dice"):
        title = "Dice of each image with its layout"
        found.append((title, _base64(distribution(tables["image_dice"], title, "Dice"))))
    for name, (title, label) in LOOKS.items():
        if rows := tables.get(f"look_{name}"):
            found.append((title, _base64(distribution(rows, title, label))))
    return found


def _control(metrics: Sequence[Row]) -> list[tuple[str, str]]:
    drawn = [(title, control_bars(metrics, base, title)) for base, title in CONTROL.items()]
    return [(title, _base64(picture)) for title, picture in drawn if picture is not None]


def _canaries(quality: Row) -> str | None:
    canaries = (quality.get("privacy") or {}).get("canaries")
    return _base64(found_bars(canaries, "Planted training images")) if canaries else None


def _nearest(item: NearestView) -> dict[str, Any]:
    change = np.abs(item.synthetic.astype(np.int16) - item.training).astype(np.uint8)
    return {"item": item, "panels": [
        ("synthetic", panel(item.synthetic, f"Synthetic image {item.image_id[:8]}")),
        ("training image", panel(item.training, "The training image most like it")),
        ("difference", panel(change, "Absolute difference of the two")),
    ]}  # fmt: skip


def _meanings(metrics: Sequence[Row]) -> dict[str, str]:
    """Return what each figure's name means; of another encoder's (`kid.texture`) what its base means."""
    found = {}
    for name in {row["name"] for row in metrics}:
        base, _, rest = name.partition(".")
        told = RELEASE_METRICS.get(name) or RELEASE_METRICS.get(base, "")
        found[name] = told if name in RELEASE_METRICS or not rest else f"{told}; features of {rest}"
    return found


def _warnings(metrics: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Return each warning once with the figures over all images that it belongs to."""
    found: dict[str, list[str]] = {}
    for row in metrics:
        if row.get("warning") and not any(key in row for key in _WHERE):
            for part in row["warning"].split("; "):
                found.setdefault(part, []).append(row["name"])
    return list(found.items())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def ends_and_middle(count: int, ranked: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return up to `count` items from the start, the middle and the end of a ranking, none of them twice."""
    count = min(count, len(ranked) // 3) or min(count, len(ranked))
    best, rest = list(ranked[:count]), list(ranked[count:])
    worst, rest = (rest[-count:], rest[:-count]) if rest else ([], [])
    start = max(0, (len(rest) - count) // 2)
    return best, rest[start : start + count], worst[::-1]
