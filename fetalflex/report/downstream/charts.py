"""Charts of the downstream page, PNG bytes on a clear background: gains, curves over shots and severity, heat."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fetalflex.artifacts import encode_png
from fetalflex.report.figures import FLOOR, INK, SERIES, chart, png

Row = Mapping[str, Any]
COLOURS = {"real": INK, "real+synthetic": SERIES[0], "real+augmentation": SERIES[1], "synthetic": SERIES[2],
           "real+unseen": SERIES[4], "real+noise": SERIES[5]}  # fmt: skip
WORDS = {"macro_f1": "macro-F1", "auc": "AUC", "auprc": "AUPRC", "ece": "ECE", "paired_auc": "paired AUC"}


def gains(rows: Sequence[Row], title: str) -> bytes:
    """Return each row's difference with its 95 % interval (and name), around zero."""
    figure, axis = chart(title, (4.6, 0.9 + 0.32 * max(1, len(rows))))
    axis.axvline(0, color=FLOOR, linewidth=1.2)
    for i, row in enumerate(rows):
        colour = {"helps": "#3d9970", "harms": "#c2517a"}.get(row["verdict"], INK)
        axis.plot([row["difference_low"], row["difference_high"]], [i, i], color=colour, linewidth=2.4, alpha=0.55)
        axis.plot(row["difference"], i, "o", color=colour, markersize=6)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axis.invert_yaxis()
    return png(figure)


def arm_values(rows: Sequence[Row], models: Sequence[str], title: str, label: str) -> bytes:
    """Return the value of every arm, model by model, with intervals."""
    figure, axis = chart(title, (6.4, 3.0))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    for k, arm in enumerate(arms):
        shift = (k - (len(arms) - 1) / 2) * 0.16
        for row in (row for row in rows if row["arm"] == arm):
            x = models.index(row["model"]) + shift
            axis.plot([x, x], [row["low"], row["high"]], color=COLOURS.get(arm, SERIES[3]), alpha=0.45, linewidth=3)
            axis.plot(x, row["value"], "o", color=COLOURS.get(arm, SERIES[3]), markersize=5)
        axis.plot([], [], "o", color=COLOURS.get(arm, SERIES[3]), label=arm)
    axis.set_xticks(range(len(models)), list(models), fontsize=8)
    axis.set_ylabel(label)
    axis.legend(frameon=False, labelcolor=INK, fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, -0.42))
    return png(figure)


def few_shot_curves(rows: Sequence[Row], title: str, label: str) -> bytes:
    """Return the value of both arms over the share of training patients, with bands."""
    figure, axis = chart(title, (3.4, 2.6))
    for arm in dict.fromkeys(row["arm"] for row in rows):
        line = sorted((row for row in rows if row["arm"] == arm), key=lambda row: float(row["shots"]))
        x = [100 * float(row["shots"]) for row in line]
        axis.fill_between(x, [r["low"] for r in line], [r["high"] for r in line], color=COLOURS[arm], alpha=0.16, lw=0)
        axis.plot(x, [r["value"] for r in line], "o-", color=COLOURS[arm], label=arm, markersize=4, linewidth=1.5)
    axis.set_xscale("log")
    ticks = sorted({100 * float(row["shots"]) for row in rows})
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set_xlabel("% of the training patients")
    axis.set_ylabel(label)
    axis.legend(frameon=False, labelcolor=INK, fontsize=7)
    return png(figure)


def dose_response(lines: Mapping[str, Sequence[tuple[float, float, float, float]]], title: str, label: str) -> bytes:
    """Return sensitivity over severity: name -> [(severity, value, low, high)]; the dashed line is the false alarms."""
    figure, axis = chart(title, (4.2, 2.9))
    axis.axhline(0.05, color=FLOOR, linewidth=1.1, linestyle=(0, (4, 3)))
    spread = 0.0
    for (name, points), colour in zip(lines.items(), SERIES * len(lines), strict=False):
        x = np.array([p[0] for p in points]) + spread
        spread += 0.012 * (np.ptp([p[0] for p in points]) or 1.0)
        axis.vlines(x, [p[2] for p in points], [p[3] for p in points], color=colour, alpha=0.35, linewidth=2)
        axis.plot(x, [p[1] for p in points], "o-", color=colour, label=name, markersize=4, linewidth=1.4)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel(label)
    axis.set_ylabel("share above the threshold")
    axis.legend(frameon=False, labelcolor=INK, fontsize=7)
    return png(figure)


def heat_picture(image: npt.NDArray[np.uint8], heat: npt.NDArray[Any]) -> bytes:
    """Return a grey image [S, S] with its heat [S, S] in colour on top, the hottest 5 % fully so."""
    top, low = np.quantile(heat, 0.99), np.quantile(heat, 0.6)
    strength = np.clip((heat.astype(np.float32) - low) / max(float(top - low), 1e-6), 0, 1)[:, :, None]
    grey = np.repeat(image[:, :, None], 3, axis=2).astype(np.float32)
    hot = np.array([255, 120, 30], np.float32)
    mixed = grey * (1 - 0.65 * strength) + hot * 0.65 * strength
    out = io.BytesIO()
    Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8)).save(out, format="PNG")
    return out.getvalue()


def grey_picture(image: npt.NDArray[np.uint8]) -> bytes:
    """Return a grey image as PNG."""
    return encode_png(image)
