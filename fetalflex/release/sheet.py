"""Sheets of a release: a few images of each kind, with what was asked drawn over them."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.release.items import Item
from fetalflex.report.figures import COLOURS

PER_GROUP, COLUMNS = 6, 6


class Sheet:
    """Collects the first images of every (plane, anomaly) as they pass, accepted ones before others."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], list[Item]] = {}

    def offer(self, item: Item) -> None:
        """Keep an image where its group still has room, or in the place of a rejected one."""
        if item.row["kind"] == "pair-normal":
            return  # its abnormal half says more
        group = self._groups.setdefault((str(item.row["plane"]), str(item.row["anomaly"] or "")), [])
        group.append(item)
        group.sort(key=lambda i: (i.rejected_for is not None, i.image_id))
        del group[PER_GROUP:]

    def rows(self) -> list[tuple[str, list[Item]]]:
        """Return (label, images) by group."""
        return [
            (" · ".join(part.replace("-", " ") for part in key if part) or "image", items)
            for key, items in sorted(self._groups.items())
        ]

    def png(self) -> bytes:
        """Return the sheet as a PNG: one line per group, outlines of what was asked over each image."""
        return draw(self.rows())


def draw(rows: Sequence[tuple[str, Sequence[Item]]]) -> bytes:
    """Return a PNG of lines of images; a line's label stands above it, a rejected image has a red frame."""
    lines = max(1, len(rows))
    figure = Figure(figsize=(COLUMNS * 1.5, lines * 1.78 + 0.1), facecolor="black")
    axes = figure.subplots(lines, COLUMNS, squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - 0.24 / (lines * 1.78), wspace=0.04, hspace=0.2)
    for axis in axes.flat:
        axis.set_axis_off()
    for line, (label, items) in zip(axes, rows, strict=False):
        line[0].set_title(label, fontsize=8, color="#d7dee8", loc="left", pad=3)
        for axis, item in zip(line, items, strict=False):
            _show(axis, item)
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", dpi=110, facecolor="black", metadata={"Software": None})
    return out.getvalue()


def _show(axis: Axes, item: Item) -> None:
    size = item.pixels.shape[0]
    grid = np.arange(-1, size + 1)
    axis.imshow(item.pixels, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    for number, mask in item.masks.items():
        colour = COLOURS[STRUCTURE_NAMES[number]]
        axis.contour(grid, grid, np.pad(mask, 1).astype(np.float32), [0.5], colors=[colour], linewidths=0.8)
    if item.rejected_for is not None:
        axis.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False, edgecolor="#e5484d", linewidth=2))
    axis.set_xlim(-0.5, size - 0.5)
    axis.set_ylim(size - 0.5, -0.5)
