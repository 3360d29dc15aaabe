"""Charts of the results: accuracies with their intervals, ROC curves, distributions of the realism."""

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fetalflex.reader_study.statistics import LEVELS, Share
from fetalflex.report.figures import ACCENT, INK, SECOND, SERIES


def accuracy_chart(readers: Mapping[str, Share], whole: Share, interval: tuple[float, float]) -> bytes:
    """Return the accuracy of each reader and of all, with 95 % intervals, against one half."""
    rows = [(name, s.value, s.low, s.high) for name, s in readers.items()] + [("all", whole.value, *interval)]
    figure, axes = _figure(5.2, 0.34 * len(rows) + 0.9)
    axes.axvline(50, color=SECOND, linestyle="--", linewidth=1.2)
    for y, (name, value, low, high) in enumerate(reversed(rows)):
        colour = ACCENT if name != "all" else INK
        axes.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=2)
        axes.plot(100 * value, y, "o" if name != "all" else "D", color=colour)
    axes.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 100)
    axes.set_xlabel("right answers, % (dashed: guessing)")
    return _png(figure)


def roc_chart(curves: Mapping[str, tuple[list[float], list[float], float]]) -> bytes:
    """Return the ROC curve of each reader and of all."""
    figure, axes = _figure(4.4, 4.2)
    axes.plot([0, 1], [0, 1], color=SECOND, linestyle="--", linewidth=1.2)
    for number, (name, (false, true, area)) in enumerate(curves.items()):
        whole = name == "all"
        label = f"{name}: {area:.2f}" if np.isfinite(area) else f"{name}: –"
        colour = INK if whole else SERIES[number % len(SERIES)]
        axes.plot(false, true, color=colour, linewidth=2.6 if whole else 1.2, label=label)
    axes.set_xlabel("synthetic images rated at least so real")
    axes.set_ylabel("real images rated at least so real")
    axes.set_aspect("equal")
    legend = axes.legend(frameon=False, fontsize=8, title="area under the curve", title_fontsize=8, loc="lower right")
    for text in (*legend.get_texts(), legend.get_title()):
        text.set_color(INK)
    return _png(figure)


def likert_chart(counts: Mapping[str, list[int]]) -> bytes:
    """Return how often each level of realism was given, to real and to synthetic images."""
    figure, axes = _figure(5.2, 3.0)
    for offset, (truth, colour) in zip((-0.2, 0.2), (("real", ACCENT), ("synthetic", SECOND)), strict=True):
        total = max(1, sum(counts[truth]))
        heights = [100 * c / total for c in counts[truth]]
        bars = axes.bar([level + offset for level in LEVELS], heights, width=0.38, color=colour, label=truth)
        axes.bar_label(bars, [str(c) for c in counts[truth]], color=INK, fontsize=8)
    axes.set_xticks(LEVELS, ["1\nnot at all", "2", "3", "4", "5\nfully real"])
    axes.set_ylabel("share of answers, %")
    axes.margins(y=0.15)
    legend = axes.legend(frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_color(INK)
    return _png(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK, labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in ("left", "bottom"))
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(out, format="png", dpi=144, metadata={"Software": None})
    return out.getvalue()
