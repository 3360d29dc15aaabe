"""The tables behind charts: small CSV files that `dvc plots` compares between releases, and that the page draws.

They hold what `reports/quality.json` cannot: distributions over images, of held-out test images and synthetic ones.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fetalflex.quality.bootstrap import Array, Floats
from fetalflex.quality.fidelity.looks import LOOKS

BINS, TAIL = 24, 0.005  # of a histogram; the share of images at each end that goes into its last bins
MOST_POINTS = 300  # images a side on the map of features
Row = Mapping[str, Any]


def plot_tables(
    report: Row, looks: tuple[Floats, Floats], features: tuple[Array, Array], dice: Floats
) -> dict[str, list[Row]]:
    """Return the rows of each table by name.

    report: the quality report; looks [N, 7] and features [N, D] of held-out and of synthetic images; dice: float64 [M]
    of synthetic images, NaN where nothing was asked.
    """
    tables: dict[str, list[Row]] = {
        "dice": [
            {"structure": row["structure"], "dice": row["value"]}
            | {"low": row["low"], "high": row["high"], "judge": row["real_value"]}
            for row in report["control"]
        ],
        "canaries": [
            {"alteration": r["alteration"], "recall": r["recall"], "false_alarms": r["false_alarms"]}
            for r in (report["privacy"] or {}).get("canaries", ())
        ],
        "image_dice": histogram([("synthetic", dice)]),
        "features": feature_map(*features),
    }
    for i, name in enumerate(LOOKS):
        tables[f"look_{name}"] = histogram([("held_out", looks[0][:, i]), ("synthetic", looks[1][:, i])])
    return tables


def histogram(sides: Sequence[tuple[str, Floats]]) -> list[Row]:
    """Return the share of each side's images per bin, one row per bin: {value: its middle, side: share, ...}.

    NaN is left out; what lies beyond the outer quantiles of all goes into the first and the last bin.
    """
    known = {name: values[np.isfinite(values)] for name, values in sides}
    every = np.concatenate(list(known.values()))
    if not len(every):
        return []
    low, high = np.quantile(every, [TAIL, 1 - TAIL])
    room = 1e-6 * max(1.0, abs(float(high)))
    edges = np.linspace(low - room, high + room, BINS + 1)
    shares = {
        name: np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / max(1, len(values))
        for name, values in known.items()
    }
    middles = (edges[1:] + edges[:-1]) / 2
    return [{"value": middles[i]} | {name: share[i] for name, share in shares.items()} for i in range(BINS)]


def feature_map(held_out: Array, synthetic: Array) -> list[Row]:
    """Return images in the plane of the held-out features' two main directions: {side, x, y}, evenly picked."""
    centre = held_out.mean(0, dtype=np.float64)
    _, _, directions = np.linalg.svd(_picked(held_out) - centre, full_matrices=False)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    directions = directions * np.sign(largest)  # a direction has no sign of its own
    rows: list[Row] = []
    for side, features in (("held_out", held_out), ("synthetic", synthetic)):
        places = (_picked(features) - centre) @ directions[:2].T
        rows += [{"side": side, "x": p[0], "y": p[1] if len(p) > 1 else 0.0} for p in places]
    return rows


def _picked(features: Array) -> Array:
    count = min(len(features), MOST_POINTS)
    return features[np.linspace(0, len(features) - 1, count).round().astype(np.int64)].astype(np.float64)


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV text; six significant digits; what is not a number is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(rows[0]) if rows else []
    writer.writerow(names)
    writer.writerows([_text(row[name]) for name in names] for row in rows)
    return out.getvalue()


def from_csv(text: str) -> list[dict[str, Any]]:
    """Return the rows of a table, numbers as numbers, what is empty as None."""
    return [{key: _value(value) for key, value in row.items()} for row in csv.DictReader(io.StringIO(text))]


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    return value if isinstance(value, str) else f"{float(value):.6g}"


def _value(text: str) -> Any:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text
