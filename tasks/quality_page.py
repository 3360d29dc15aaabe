"""`reports/quality.html`, made by the walk after the stages from what they left (the gate comes after the scores)."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fetalflex import tables
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.artifacts import atomic, decode_png
from fetalflex.dataset import Cases
from fetalflex.params import Params
from fetalflex.quality.plots import from_csv
from fetalflex.report.page import NearestView, number
from fetalflex.report.quality.page import QualityContext, Ranking, ScoredView, ends_and_middle, render_quality
from tasks.workspace import load_center

QUALITY_PAGE, SCORES, PLOTS = Path("reports/quality.html"), Path("reports/scores.parquet"), Path("reports/plots")
_SHOWN, _SHOWN_NEAREST = 3, 12
# Score -> title, what it says, whether more is better, whether the layout is drawn.
_SCORES: dict[str, tuple[str, str, bool, bool]] = {
    "dice": ("Control", "Judge's mean Dice against the asked layout, which is drawn; higher is better.", True, True),
    "realism": (
        "Realism",
        "Above 1 the image lies among real test images in the first encoder's features; higher is better.",
        True,
        False,
    ),
    "nearest_correlation": (
        "Likeness to a training image",
        "Correlation of fine detail with the training image most alike; lower is better, the worst may be copies.",
        False,
        False,
    ),
    "implausible": ("Mechanical checks", "Failed checks of plausibility; fewer is better.", False, False),
}


def write_quality_page(root: Path, params: Params, cases: Cases | None, made: pl.DataFrame | None,
                       reports: dict[str, dict[str, Any] | None]) -> Path | None:  # fmt: skip
    """Write the page; None where nothing has been scored. An old page goes: it would tell of other images."""
    quality = reports["quality"]
    if quality is None or made is None or cases is None or not (root / SCORES).is_file():
        (root / QUALITY_PAGE).unlink(missing_ok=True)
        return None
    scores = tables.read_shards([root / SCORES], tables.Scores)
    images = made.select("image_id", "image", "layout").join(scores, "image_id", how="inner").sort("image_id")
    context = QualityContext(
        preset=params.preset,
        quality=quality,
        gate=reports["gate"],
        rankings=[r for name in _SCORES if (r := _ranking(name, images, cases.size)) is not None],
        nearest=_nearest(quality, images, cases),
        tables={path.stem: from_csv(path.read_text()) for path in sorted((root / PLOTS).glob("*.csv"))},
        simulated=all_simulated(root, params),
    )
    with atomic(root / QUALITY_PAGE) as partial:
        partial.write_text(render_quality(context), encoding="utf-8")
    return root / QUALITY_PAGE


def all_simulated(root: Path, params: Params) -> bool:
    """Whether every center is a phantom: then no image may be called real."""
    return all(load_center(root, name).phantom is not None for name in params.ingest.centers)


def _ranking(name: str, images: pl.DataFrame, size: int) -> Ranking | None:
    title, told, more, asked = _SCORES[name]
    known = images.drop_nulls(name).sort(name, "image_id", descending=[more, False])
    if known.is_empty():
        return None
    picked = ends_and_middle(_SHOWN, np.arange(known.height).tolist())
    best, median, worst = ([_view(known.row(i, named=True), name, size) for i in part] for part in picked)
    return Ranking(title, told, best, median, worst, asked)


def _view(row: dict[str, Any], name: str, size: int) -> ScoredView:
    maps = rasterize(Layout.from_json(row["layout"]), size).maps
    place = [part for part in (row["plane"], row["center"], row["anomaly"]) if part]
    value = f"{row[name]:d}" if name == "implausible" else number(row[name])
    note = _checks(row["implausible_because"] or "") if name == "implausible" else ""
    return ScoredView(decode_png(row["image"]["bytes"]), maps, row["image_id"], place, value, note)


def _checks(because: str) -> str:
    """Return the failed checks without their numbers, which the gate's table tells."""
    return "; ".join(reason.partition(":")[0] for reason in because.split("; ") if reason)


def _nearest(quality: dict[str, Any], images: pl.DataFrame, cases: Cases) -> list[NearestView]:
    number_of = {str(case): i for i, case in enumerate(cases.ids)}
    pictures = dict(images.select("image_id", "image").iter_rows())
    shown = (quality.get("privacy") or {}).get("nearest", [])[:_SHOWN_NEAREST]
    return [
        NearestView(
            decode_png(pictures[n["image_id"]]["bytes"]), cases.images[number_of[n["correlated_case"]]], n["image_id"],
            n["correlation"], n["distance"], n["near_copy"],
        )
        for n in shown
        if n["image_id"] in pictures and n["correlated_case"] in number_of
    ]  # fmt: skip
