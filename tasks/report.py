"""The report page, made by the walk after the stages. It shows versions and times, so it is no output of DVC."""

import os
import platform
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import dataframely as dy
import numpy as np
import polars as pl

from fetalflex import tables
from fetalflex.anatomy.anomalies import ANOMALIES
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.artifacts import atomic, decode_png, read_json, tree_sha256
from fetalflex.dataset import Cases
from fetalflex.errors import ArtifactError
from fetalflex.params import Params
from fetalflex.report.figures import Triptych, sample_grid
from fetalflex.report.page import (
    AnomalyView,
    CenterCounts,
    NearestView,
    PairView,
    ReportContext,
    Run,
    SampleView,
    Stage,
    render,
)
from tasks import versioning
from tasks.cases import MASKS, read_cases, read_synthetic
from tasks.quality_page import all_simulated, write_quality_page
from tasks.readings import PREFIXES
from tasks.workspace import git_commit, load_center, load_params

PAGE, SHEET = Path("reports/index.html"), Path("reports/samples.png")
_SHOWN, _SHOWN_PAIRS, _SHOWN_NEAREST = 16, 12, 6
_STATES = {"NotRun": "Not run"}
_T = TypeVar("_T")


def write_report(root: Path, stages: list[dict[str, Any]]) -> Path:
    """Write `reports/index.html`, `quality.html` and `samples.png` from what the stages left; index says what lacks."""
    params = load_params(root)
    reports = {name: _json(root / "reports" / f"{name}.json") for name in ("quality", "downstream", "gate")}
    cases = _if_there(lambda: read_cases(root, params))
    made = _if_there(lambda: read_synthetic(root))
    context = ReportContext(
        run=_run(root, params, stages),
        stages=[Stage(s["name"], _STATES.get(s["state"], s["state"]), s["seconds"], s["message"]) for s in stages],
        centers=[_counts(root, name, folder) for name, folder in sorted(params.ingest.centers.items())],
        curves=_curves(root),
        quality=reports["quality"],
        downstream=reports["downstream"],
        gate=reports["gate"],
        simulated=all_simulated(root, params),
        **_views(root, cases, made, reports),
    )
    with atomic(root / PAGE) as partial:
        partial.write_text(render(context), encoding="utf-8")
    write_quality_page(root, params, cases, made, reports)
    if context.samples:
        rows = [Triptych(s.real, s.maps, s.synthetic, f"{s.told or s.plane}, {s.center}") for s in context.samples]
        with atomic(root / SHEET) as partial:
            partial.write_bytes(sample_grid(rows))
    return root / PAGE


def _run(root: Path, params: Params, stages: list[dict[str, Any]]) -> Run:
    commit, dirty = git_commit(root)
    weights = root / "models" / "generator"
    return Run(
        preset=params.preset,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        seconds=sum(s["seconds"] for s in stages),
        git_commit=commit,
        git_dirty=dirty,
        data_version=versioning.data_version(root),
        model_sha256=tree_sha256([weights]) if weights.is_dir() else None,
    )


def _if_there(read: Callable[[], _T]) -> _T | None:
    """Return what is read, or None where a stage has not written it (yet)."""
    try:
        return read()
    except ArtifactError:
        return None


def _json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _counts(root: Path, name: str, folder: str) -> CenterCounts:
    profile, place = load_center(root, name), root / "data" / folder / name
    frames = _if_there(lambda: tables.read_shards(place.glob("frames-*.parquet"), tables.Frames))
    quarantine = _if_there(lambda: tables.read_shards(place.glob("quarantine.parquet"), tables.Quarantine))
    splits = _table(root / MASKS / "splits.parquet", tables.Splits).filter(pl.col("center") == name)
    duplicates = _table(root / MASKS / "duplicates.parquet", tables.Duplicates)
    return CenterCounts(
        name=name,
        title=profile.title,
        role=profile.role,
        planes=Counter([] if frames is None else frames["plane"].to_list()),
        groups=Counter(splits["group"].to_list()),
        quarantine=Counter([] if quarantine is None else quarantine["reason"].to_list()),
        licence=profile.licence,
        noted={} if frames is None else _noted(frames, splits, duplicates),
    )


def _noted(frames: pl.DataFrame, splits: pl.DataFrame, duplicates: pl.DataFrame) -> dict[str, int]:
    """Return counts of a center's marks, copies and ties, in words of the page."""
    here = duplicates.join(frames.select("case_id"), left_on="case_b", right_on="case_id", how="semi")
    patients = splits.unique("patient")
    return {
        "image with marks": frames.filter(pl.col("marks") != "[]").height,
        "copy within one patient": here.filter("same_patient").height,
        "patient tied by equal pictures": patients.filter(pl.col("tied_by") == "exact").height,
        "patient tied by nearly equal pictures": patients.filter(pl.col("tied_by") == "near").height,
        "patient moved to another group": patients["moved_from"].count(),
    }


def _table(path: Path, schema: type[dy.Schema]) -> pl.DataFrame:
    return tables.read_shards([path] if path.is_file() else [], schema)


def _curves(root: Path) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    titles = {"guide": "Segmenters", "judge": "Segmenters", "aligner": "Pre-alignment", "generator": "Generator"}
    for model, title in titles.items():
        path = root / "models" / model / "curve.json"
        if path.is_file():
            curve = read_json(path)
            found.setdefault(title, {})[model] = ([c["step"] for c in curve], [c["loss"] for c in curve])
    return found


def _views(
    root: Path, cases: Cases | None, made: pl.DataFrame | None, reports: dict[str, dict[str, Any] | None]
) -> dict[str, Any]:
    """Return samples, pairs and nearest pairs; nothing where there are no synthetic images yet."""
    if cases is None or made is None or made.is_empty():
        return {}
    number = {str(case): i for i, case in enumerate(cases.ids)}
    scores_path = root / "reports" / "scores.parquet"
    scores = tables.read_shards([scores_path], tables.Scores) if scores_path.is_file() else None
    dice = {} if scores is None else dict(scores.select("image_id", "dice").iter_rows())
    measured = {} if scores is None else {r["image_id"]: r for r in scores.iter_rows(named=True)}
    rejected = {r["image_id"] for r in (reports["gate"] or {}).get("images", {}).get("rejected", [])}
    rows = {r["image_id"]: r for r in made.sort("image_id").iter_rows(named=True)}
    judged = reports["gate"] is not None
    shown = [r for r in rows.values() if r["kind"] in ("normal", "abnormal") and r["source_case"] in number]
    samples = [
        _sample_view(r, cases, number, dice.get(r["image_id"]), r["image_id"] not in rejected if judged else None)
        for r in _spread(shown, _SHOWN)
    ]
    near = ((reports["quality"] or {}).get("privacy") or {}).get("nearest", [])
    return {
        "samples": samples,
        "pairs": _pairs(list(rows.values()), measured, cases.size),
        "anomalies": anomaly_views(made),
        "nearest": [
            NearestView(
                _grey(rows[n["image_id"]]["image"]), cases.images[number[n["correlated_case"]]], n["image_id"],
                n["correlation"], n["distance"], n["near_copy"],
            )
            for n in near[:_SHOWN_NEAREST]
            if n["image_id"] in rows and n["correlated_case"] in number
        ],
    }  # fmt: skip


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return up to `count` rows, taking anomalies, planes, centers in turn: none hides the others."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        anomaly = "+".join(row[f"{prefix}anomaly"] or "" for prefix in PREFIXES)
        key = (anomaly,) if row["anomaly"] else ("", row["plane"], row["center"])
        groups.setdefault(key, []).append(row)
    queues = [groups[key] for key in sorted(groups)]
    turns = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
    return turns[:count]


def _sample_view(
    row: dict[str, Any], cases: Cases, number: dict[str, int], dice: float | None, accepted: bool | None
) -> SampleView:
    maps = rasterize(Layout.from_json(row["layout"]), cases.size).maps
    return SampleView(
        real=cases.images[number[row["source_case"]]], maps=maps, synthetic=_grey(row["image"]), plane=row["plane"],
        center=row["center"], image_id=row["image_id"], dice=dice, accepted=accepted, kind=row["kind"], told=told(row),
    )  # fmt: skip


def _pairs(rows: list[dict[str, Any]], measured: dict[str, dict[str, Any]], size: int) -> list[PairView]:
    """Return pairs, every anomaly once before one comes twice."""
    normal = {r["pair_id"]: r for r in rows if r["kind"] == "pair-normal"}
    abnormal = [r for r in rows if r["kind"] == "pair-abnormal" and r["pair_id"] in normal]
    return [_pair_view(r, normal[r["pair_id"]], measured.get(r["image_id"]), size)
            for r in _spread(abnormal, _SHOWN_PAIRS)]  # fmt: skip


def _pair_view(row: dict[str, Any], normal: dict[str, Any], measured: dict[str, Any] | None, size: int) -> PairView:
    before, after = (rasterize(Layout.from_json(r["layout"]), size) for r in (normal, row))
    gone = before.maps * after.absent[:, None, None]
    return PairView(
        _grey(normal["image"]), _grey(row["image"]), _grey(row["region"]) > 127, f"{told(row)} ({row['plane']})",
        after.maps, gone, _told_measured(row, measured),
    )  # fmt: skip


def told(row: dict[str, Any]) -> str:
    """Return an image's anomalies with their severities for people; empty where it is normal."""
    parts = []
    for prefix in PREFIXES:
        name, severity, unit = (row[f"{prefix}{key}"] for key in ("anomaly", "severity", "severity_unit"))
        if name is not None:
            parts.append(name if unit == "present" else f"{name} {severity_text(severity)} {unit}")
    return " + ".join(parts)


def _told_measured(row: dict[str, Any], scores: dict[str, Any] | None) -> str:
    parts = []
    for prefix in PREFIXES:
        value, unit = (scores or {}).get(f"{prefix}measured_severity"), row[f"{prefix}severity_unit"]
        if value is not None:
            found = "found" if value else "not found"
            parts.append(found if unit == "present" else f"measures {severity_text(round(value, 2))} {unit}")
    return " and ".join(parts)


def severity_text(value: float) -> str:
    """Return a severity with a true minus."""
    return f"{value:g}".replace("-", "\u2212")


def anomaly_views(made: pl.DataFrame) -> list[AnomalyView]:
    """Return each anomaly that a dataset holds, in the catalogue's order, with counts and the range that was asked."""
    parts = [
        made.select("kind", anomaly=f"{prefix}anomaly", severity=f"{prefix}severity") for prefix in PREFIXES
    ]  # fmt: skip
    table = pl.concat(parts).drop_nulls("anomaly")
    found = []
    for name, anomaly in ANOMALIES.items():
        rows = table.filter(pl.col("anomaly") == name)
        if rows.height:
            pairs = rows.filter(pl.col("kind") == "pair-abnormal").height
            low, high = (severity_text(float(v)) for v in (min(rows["severity"]), max(rows["severity"])))
            span = low if low == high else f"{low} to {high}"
            severities = "there or not" if anomaly.unit == "present" else f"{span} {anomaly.unit}"
            found.append(AnomalyView(name, anomaly.definition, rows.height - pairs, pairs, severities))
    return found


def _grey(value: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return decode_png(value["bytes"])
