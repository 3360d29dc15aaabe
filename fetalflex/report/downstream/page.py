"""`reports/downstream.html` from the report and the images: one file, no clock in it, nothing from elsewhere."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from fetalflex.anatomy.severities import KINDS
from fetalflex.downstream.data.anomalies import AnomalyTask
from fetalflex.downstream.detectors.run import STYLE
from fetalflex.downstream.statistics.anomaly_results import ORDER, VENTRICLES
from fetalflex.downstream.study import Outcome, Study
from fetalflex.report.downstream.charts import (
    WORDS,
    arm_values,
    dose_response,
    few_shot_curves,
    gains,
    grey_picture,
    heat_picture,
)
from fetalflex.report.figures import outline_path
from fetalflex.report.page import number, page_style

Row = Mapping[str, Any]
MACHINERY = ("demo", "tiny")  # presets whose figures mean nothing
TESTS = {
    "severity": "moderate and severe against mild ventriculomegaly, one source",
    "kind": "ventriculomegaly against other anomalies, one source",
    "pairs": "counterfactual pairs: the same synthetic image with and without the anomaly",
    "source": "abnormal images against normal test images of other sources",
}
_SHOWN = 6


def render_downstream(report: Row, study: Study, detectors: Mapping[str, Outcome], *, preset: str) -> str:
    """Return the page as HTML; all text is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": number, "word": lambda name: WORDS.get(name, name)}
    source = files("fetalflex.report.downstream") / "template.html"
    models = list(dict.fromkeys(row["model"] for row in report["results"] if row["task"] == "plane"))
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        r=report, style=page_style(), preset=preset, machinery=preset in MACHINERY, models=models, tests=TESTS,
        style_name=STYLE, tables=_tables(report), curves=_curves(report, models), doses=_doses(report),
        examples=_examples(study.anomalies, detectors), present=_present(report),
    )  # fmt: skip


def _tables(report: Row) -> list[dict[str, Any]]:
    """Return, per test, the models' lines: each arm's value of the headline metric, and the comparison with `real`."""
    protocol, tables = report["protocol"], []
    tests = dict.fromkeys((row["task"], row["test"]) for row in report["results"])
    for task, test in tests:
        rows = [row for row in report["results"] if (row["task"], row["test"]) == (task, test)]
        metric = protocol["plane_metric"] if task == "plane" else "paired_auc" if test == "pairs" else "auc"
        told = [row for row in rows if row["metric"] == metric]
        arms = list(dict.fromkeys(row["arm"] for row in told))
        lines = [
            _line(model, [r for r in told if r["model"] == model]) for model in dict.fromkeys(r["model"] for r in told)
        ]
        main = any(row["primary"] for row in rows)
        tables.append({"task": task, "test": test, "metric": metric, "arms": arms, "lines": lines, "primary": main,
                       "n": rows[0]["n"], "rows": rows})  # fmt: skip
    return tables


def _line(model: str, rows: Sequence[Row]) -> dict[str, Any]:
    compared = {row["against"]: row for row in rows if row["arm"] == "real+synthetic" and row["against"]}
    return {"model": model, "arms": {row["arm"]: row for row in rows}, "real": compared.get("real"),
            "classic": compared.get("real+augmentation")}  # fmt: skip


def _curves(report: Row, models: Sequence[str]) -> list[tuple[str, str]]:
    """Return (title, picture) of gains, arms and few-shot curves."""
    found = []
    verdicts = [dict(row) | {"name": f"{row['model']}, {row['task']}"} for row in report["verdicts"]]
    if verdicts:
        title = "Gain of real + synthetic over real"
        found.append((title, _base64(gains(verdicts, title))))
    metric = report["protocol"]["plane_metric"]
    rows = [r for r in report["results"] if r["task"] == "plane" and r["metric"] == metric]
    if rows:
        title = f"Planes: {WORDS.get(metric, metric)} of every arm"
        found.append((title, _base64(arm_values(rows, models, title, WORDS.get(metric, metric)))))
    for model in models:
        points = [row for row in report.get("few_shot", ()) if row["model"] == model]
        if points:
            title = f"{model}: few patients"
            found.append((title, _base64(few_shot_curves(points, title, WORDS.get(metric, metric)))))
    return found


def _doses(report: Row) -> list[tuple[str, str]]:
    """Return sensitivity by grade of real ventriculomegaly, and by severity of each anomaly of the pairs."""
    found, rows = [], report.get("detected", ())
    grades: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in rows:
        place = [i for i, grade in enumerate(ORDER) if f"{grade}-{VENTRICLES}" == row["group"]]
        if place and row["arm"] in ("real", "real+synthetic"):
            grades.setdefault(_name(row), []).append((float(place[0]), row["value"], row["low"], row["high"]))
    if grades:
        title = "Real ventriculomegaly (0 mild, 1 moderate, 2 severe)"
        found.append((title, _base64(dose_response(_ordered(grades), title, "grade"))))
    graded = [row for row in rows if row["severity"] is not None and row["arm"] in ("real", "real+synthetic")]
    for name in dict.fromkeys(row["group"] for row in graded):
        lines: dict[str, list[tuple[float, float, float, float]]] = {}
        for row in (row for row in graded if row["group"] == name):
            lines.setdefault(_name(row), []).append((row["severity"], row["value"], row["low"], row["high"]))
        title, unit = f"Pairs: {name}", KINDS[name].unit if name in KINDS else "severity"
        found.append((title, _base64(dose_response(_ordered(lines), title, unit))))
    return found


def _ordered(lines: dict[str, Any]) -> dict[str, Any]:
    """Return at most six lines, the most sensitive first, each by severity."""
    ranked = sorted(lines, key=lambda name: -float(np.mean([p[1] for p in lines[name]])))
    return {name: sorted(lines[name]) for name in ranked[:_SHOWN]}


def _name(row: Row) -> str:
    return row["model"] if row["seeds"] == 1 and row["arm"] == "real" else f"{row['model']}, {row['arm']}"


def _examples(task: AnomalyTask | None, detectors: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """Return pairs with every detector's heat on the abnormal half, and real abnormal images with theirs."""
    if task is None:
        return []
    heats = {name: outcome for name, outcome in detectors.items() if "heat_pairs_abnormal" in outcome}
    found = []
    for i in _spread(task.pairs.anomalies):
        changed = outline_path(task.pairs.regions[i])
        panels = [
            ("normal half", _base64(grey_picture(task.pairs.normal[i])), ""),
            ("abnormal half", _base64(grey_picture(task.pairs.abnormal[i])), changed),
        ]
        for name, outcome in heats.items():
            panels.append((name, _base64(heat_picture(task.pairs.abnormal[i], outcome["heat_pairs_abnormal"][i])), ""))
        told = f"{task.pairs.anomalies[i]}, {task.pairs.severities[i]:.3g} {task.pairs.units[i]}"
        found.append({"caption": told, "kind": "pair", "side": task.pairs.normal.shape[1], "panels": panels})
    for i in _spread(task.abnormal.labels):
        panels = [("real", _base64(grey_picture(task.abnormal.images[i])), "")]
        panels += [(name, _base64(heat_picture(task.abnormal.images[i], outcome["heat_abnormal"][i])), "")
                   for name, outcome in heats.items()]  # fmt: skip
        side = task.abnormal.images.shape[1]
        found.append({"caption": str(task.abnormal.labels[i]), "kind": "real", "side": side, "panels": panels})
    return found


def _spread(labels: Any) -> list[int]:
    """Return up to six positions, each label once before one comes twice."""
    order = sorted(range(len(labels)), key=lambda i: (list(labels[:i]).count(labels[i]), i))
    return order[:_SHOWN]


def _present(report: Row) -> list[dict[str, Any]]:
    """Return detection of real findings: one line per finding, the best few models as they come."""
    rows = [row for row in report.get("detected", ()) if row["set"] in ("test", "abnormal")]
    names = list(dict.fromkeys(_name(r) for r in rows if r["arm"] in ("real", "real+synthetic")))
    groups = dict.fromkeys((row["group"], row["n"]) for row in rows)
    cells = {(row["group"], _name(row)): row for row in rows}
    if len(groups) < 2:
        return []
    return [
        {"group": group, "n": n, "cells": [(name, cells.get((group, name))) for name in names]} for group, n in groups
    ]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
