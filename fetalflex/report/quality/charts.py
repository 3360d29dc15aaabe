"""Charts of the quality page, PNG bytes on a clear background: distributions, the map of features, control."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from fetalflex.report.figures import ACCENT, FLOOR, INK, SECOND, chart, metric_bars, png

Row = Mapping[str, Any]
HELD_OUT, SYNTHETIC = INK, ACCENT


def distribution(rows: Sequence[Row], title: str, label: str) -> bytes:
    """Return the shares of images per bin (value, synthetic, and held_out where it is known) as steps."""
    figure, axis = chart(title, (3.4, 2.3))
    middles = np.array([row["value"] for row in rows])
    half = (middles[1] - middles[0]) / 2 if len(middles) > 1 else 0.5
    edges = np.append(middles - half, middles[-1] + half)
    for name, told, colour in (("held_out", "held-out", HELD_OUT), ("synthetic", "synthetic", SYNTHETIC)):
        if name in rows[0]:
            shares = [row[name] for row in rows]
            axis.stairs(shares, edges, color=colour, fill=True, alpha=0.16)
            axis.stairs(shares, edges, color=colour, linewidth=1.5, label=told)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(label)
    axis.set_ylabel("share of images")
    axis.legend(frameon=False, labelcolor=INK, fontsize=7)
    return png(figure)


def feature_map(rows: Sequence[Row], title: str) -> bytes:
    """Return images as points in the two main directions of the held-out features."""
    figure, axis = chart(title, (3.4, 2.6))
    for name, told, colour, mark in (
        ("held_out", "held-out", HELD_OUT, "o"),
        ("synthetic", "synthetic", SYNTHETIC, "^"),
    ):
        points = [(row["x"], row["y"]) for row in rows if row["side"] == name]
        axis.plot(
            *zip(*points, strict=True), mark, color=colour, markersize=4, alpha=0.6, markeredgewidth=0, label=told
        )
    axis.set_xticklabels([])
    axis.set_yticklabels([])
    axis.legend(frameon=False, labelcolor=INK, fontsize=7)
    return png(figure)


def control_bars(metrics: Sequence[Row], base: str, title: str) -> bytes | None:
    """Return one bar per structure of the figures `base.STRUCTURE`, with intervals and floors; None without any."""
    rows = [
        (row["name"].partition(".")[2], row["value"], row["low"], row["high"], row["floor"])
        for row in metrics
        if row["name"].startswith(f"{base}.") and row["value"] is not None and row["low"] is not None
    ]
    return metric_bars(rows, title) if rows else None


def found_bars(canaries: Sequence[Row], title: str) -> bytes:
    """Return per alteration the share of planted training images that is found, and of strangers that is flagged."""
    figure, axis = chart(title, (4.2, 0.9 + 0.38 * max(1, len(canaries))))
    for i, row in enumerate(canaries):
        axis.plot([row["low"], row["high"]], [i - 0.12] * 2, color=ACCENT, linewidth=3, alpha=0.4)
        axis.plot(row["recall"], i - 0.12, "o", color=ACCENT, markersize=5, label="found" if not i else None)
        ends = [row["false_alarms_low"], row["false_alarms_high"]]
        axis.plot(ends, [i + 0.16] * 2, color=SECOND, linewidth=3, alpha=0.4)
        axis.plot(
            row["false_alarms"], i + 0.16, "s", color=SECOND, markersize=4, label="strangers flagged" if not i else None
        )
    axis.axvline(0.01, color=FLOOR, linewidth=1.0, linestyle=(0, (4, 3)))
    axis.set_xlim(-0.03, 1.03)
    axis.set_yticks(range(len(canaries)), [row["alteration"] for row in canaries])
    axis.invert_yaxis()
    axis.legend(frameon=False, labelcolor=INK, fontsize=7, loc="center")
    return png(figure)
