"""Figures from arrays to PNG bytes (or to outlines for the page). No global state: safe on threads, no display.

Charts have a clear background and middle-grey text, so that they read on light and on dark pages.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fetalflex.anatomy.ontology import STRUCTURE_NAMES

Grey = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
INK, ACCENT, SECOND, FLOOR = "#74808f", "#2f81b7", "#e08e2b", "#c2517a"
SERIES = (ACCENT, SECOND, "#3d9970", FLOOR, "#8a6fc9", "#8c7a5b")
_COLOURS = (
    "#4fc3f7", "#ffb74d", "#f06292", "#aed581", "#ffd54f", "#4db6ac", "#e0e0e0", "#81d4fa",
    "#ff8a65", "#e57373", "#64b5f6", "#f48fb1", "#9fa8da", "#fff176", "#ba68c8",
)  # fmt: skip
COLOURS = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(STRUCTURE_NAMES)}
_HEAT = LinearSegmentedColormap.from_list("ink", ["#2f81b708", ACCENT])


@dataclass(frozen=True)
class Outline:
    """The outline of a structure as SVG path data in pixels of the image; `dashed` where it is to be absent."""

    structure: str
    colour: str
    path: str
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Triptych:
    """A real image, the layout that was asked [K, S, S] (from it, perturbed or other) and the synthetic image."""

    real: Grey
    maps: Array
    synthetic: Grey
    label: str


def outlines(maps: Array, *, dashed: bool = False) -> tuple[Outline, ...]:
    """Return the outline of each structure that is not empty in maps [K, S, S]."""
    found = []
    for k in np.nonzero(np.asarray(maps).reshape(len(maps), -1).any(axis=1))[0]:
        name = STRUCTURE_NAMES[int(k)]
        found.append(Outline(name, COLOURS[name], outline_path(maps[k]), dashed))
    return tuple(found)


def outline_path(mask: Array) -> str:
    """Return SVG path data around a mask [S, S] at one half; pixel (y, x) covers x .. x + 1, y .. y + 1."""
    padded = np.pad(np.asarray(mask, np.float32), 1)
    lines = contour_generator(z=padded).lines(0.5)
    parts = []
    for line in lines:
        points = np.asarray(line, np.float64) - 0.5
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
    return "".join(parts)


def sample_grid(rows: Sequence[Triptych], columns: int = 2) -> bytes:
    """Return a sheet of real | asked layout | synthetic, `columns` such threes side by side."""
    height = max(1, -(-len(rows) // columns))
    figure = Figure(figsize=(columns * 4.6, height * 1.75 + 0.3), facecolor="black")
    axes = figure.subplots(height, 3 * columns, squeeze=False)
    title = 0.3 / (height * 1.75 + 0.3)  # room for the titles of the first line, in figure heights
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - title, wspace=0.04, hspace=0.18)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, row in enumerate(rows):
        line, first = i // columns, 3 * (i % columns)
        trio = axes[line, first : first + 3]
        for axis, image in zip(trio, (row.real, row.real // 2, row.synthetic), strict=True):
            _show(axis, image)
        _draw_maps(trio[1], row.maps)
        trio[0].set_title(row.label, fontsize=7, color="#d7dee8", loc="left", pad=3)
        if line == 0:
            for axis, name in zip(trio[1:], ("asked layout", "synthetic"), strict=True):
                axis.set_title(name, fontsize=7, color="#93a1b3", pad=3)
    return png(figure, opaque=True)


def pair_grid(pairs: Sequence[tuple[Grey, Grey, Array, str]]) -> bytes:
    """Return before | after | difference of counterfactual pairs (before, after, region [S, S], label)."""
    figure = Figure(figsize=(5.2, max(1, len(pairs)) * 1.8 + 0.3), facecolor="black")
    axes = figure.subplots(max(1, len(pairs)), 3, squeeze=False)
    title = 0.3 / (max(1, len(pairs)) * 1.8 + 0.3)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - title, wspace=0.03, hspace=0.16)
    for axis in axes.flat:
        axis.set_axis_off()
    for trio, (before, after, region, label) in zip(axes, pairs, strict=False):
        change = np.abs(after.astype(np.int16) - before).astype(np.uint8)
        for axis, image, name in zip(trio, (before, after, change), (label, "after", "|after − before|"), strict=True):
            _show(axis, image)
            axis.set_title(name, fontsize=7, color="#d7dee8", pad=3)
            if np.any(region) and not np.all(region):
                axis.contour(np.asarray(region, np.float32), [0.5], colors=[SECOND], linewidths=0.9)
    return png(figure, opaque=True)


def loss_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str) -> bytes:
    """Return curves (name -> steps, values): each raw in the back, its running mean in front."""
    figure, axis = chart(title)
    for (name, (steps, values)), colour in zip(curves.items(), SERIES * len(curves), strict=False):
        smooth = running_mean(np.asarray(values, np.float64))
        axis.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
        axis.plot(steps, smooth, color=colour, linewidth=1.6, label=name)
    every = np.concatenate([np.asarray(v, np.float64) for _, v in curves.values()] or [np.zeros(0)])
    if len(every) and every.min() > 0 and every.max() > 30 * every.min():
        axis.set_yscale("log")
    axis.set_xlabel("step")
    if len(curves) > 1:
        axis.legend(frameon=False, labelcolor=INK, fontsize=8)
    return png(figure)


def running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the exponential running mean, corrected for its start; its window is a twentieth of the curve."""
    decay = 1 - 1 / max(2.0, len(values) / 20)
    out, mean = np.empty_like(values), 0.0
    for i, value in enumerate(values):
        mean = decay * mean + (1 - decay) * value
        out[i] = mean / (1 - decay ** (i + 1))
    return out


def metric_bars(rows: Sequence[tuple[str, float, float, float, float | None]], title: str) -> bytes:
    """Return horizontal bars (name, value, low, high, floor or None) with their intervals and floors."""
    figure, axis = chart(title, (4.2, 0.9 + 0.38 * max(1, len(rows))))
    for i, (_, value, low, high, floor) in enumerate(rows):
        axis.barh(i, value, height=0.55, color=ACCENT, alpha=0.55)
        axis.plot([low, high], [i, i], color=INK, linewidth=1.8, solid_capstyle="butt")
        if floor is not None:
            axis.plot([floor, floor], [i - 0.38, i + 0.38], color=FLOOR, linewidth=2)
    axis.set_yticks(range(len(rows)), [row[0] for row in rows])
    axis.invert_yaxis()
    return png(figure)


def severity_scatter(points: Sequence[tuple[float, float | None]], title: str, unit: str, limit: float) -> bytes:
    """Return measured against asked severity, image by image; what was not measured stands as a tick on the axis.

    The line is equality, the dashed one the limit at which the anomaly begins.
    """
    figure, axis = chart(title, (4.2, 3.0))
    asked = np.array([p[0] for p in points], np.float64)
    measured = np.array([np.nan if p[1] is None else p[1] for p in points], np.float64)
    seen = np.isfinite(measured)
    values = np.concatenate([asked, measured[seen], [limit]])
    low, high = float(values.min()), float(values.max())
    room = 0.06 * (high - low) or 1.0
    axis.plot([low, high], [low, high], color=INK, linewidth=1.0)
    axis.axhline(limit, color=FLOOR, linewidth=1.2, linestyle=(0, (4, 3)))
    axis.plot(asked[seen], measured[seen], "o", color=ACCENT, markersize=5, alpha=0.75, markeredgewidth=0)
    axis.plot(asked[~seen], np.full(int((~seen).sum()), low - room), "|", color=SECOND, markersize=9)
    axis.set_xlim(low - 2 * room, high + 2 * room)
    axis.set_ylim(low - 2 * room, high + 2 * room)
    axis.set_xlabel(f"asked, {unit}")
    axis.set_ylabel(f"measured, {unit}")
    return png(figure)


def confusion_matrix(matrix: Array, classes: Sequence[str], title: str) -> bytes:
    """Return a confusion matrix [true, predicted], shaded per true class, counts written in."""
    counts = np.asarray(matrix, np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axis = chart(title, (4.2, 1.0 + 0.42 * len(classes)))
    axis.imshow(share, cmap=_HEAT, vmin=0, vmax=1, aspect="auto")
    for (i, j), count in np.ndenumerate(counts):
        axis.text(
            j, i, f"{count:g}", ha="center", va="center", fontsize=9, color="white" if share[i, j] > 0.55 else INK
        )
    axis.set_xticks(range(len(classes)), list(classes), rotation=30, ha="right")
    axis.set_yticks(range(len(classes)), list(classes))
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.grid(visible=False)
    return png(figure)


def chart(title: str, size: tuple[float, float] = (4.2, 2.6)) -> tuple[Figure, Axes]:
    """Return a figure with one chart in the style of the pages; `size`: inches."""
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("none")
    axis.set_title(title, fontsize=9, color=INK, loc="left")
    axis.tick_params(colors=INK, labelsize=8, length=0, which="both")
    for item in (axis.xaxis, axis.yaxis):
        item.label.set_color(INK)
        item.label.set_fontsize(8)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
    axis.grid(visible=True, color=INK, alpha=0.18, linewidth=0.6)
    axis.set_axisbelow(True)
    return figure, axis


def _show(axis: Axes, image: Grey) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")


def _draw_maps(axis: Axes, maps: Array) -> None:
    for k in np.nonzero(np.asarray(maps).reshape(len(maps), -1).any(axis=1))[0]:
        padded = np.pad(np.asarray(maps[k], np.float32), 1)
        grid = np.arange(-1, maps.shape[1] + 1)
        axis.contour(grid, grid, padded, [0.5], colors=[COLOURS[STRUCTURE_NAMES[int(k)]]], linewidths=1.1)
    axis.set_xlim(-0.5, maps.shape[2] - 0.5)
    axis.set_ylim(maps.shape[1] - 0.5, -0.5)


def png(figure: Figure, *, opaque: bool = False) -> bytes:
    """Return a figure as PNG, clear or opaque, without anything that changes from run to run."""
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", dpi=170, transparent=not opaque, metadata={"Software": None})
    return out.getvalue()
