"""The face: midsagittal profile, and coronal view of nose and lips.

Which structures: ISUOG Practice Guidelines, routine mid-trimester scan, 2022 (median profile; upper lip). Shapes and
shares are our estimates; lengths are in units of the head's (profile) or of the mouth's width (lips).
"""

from collections.abc import Callable

import numpy as np

from fetalflex.anatomy import biometry
from fetalflex.phantom.canvas import Canvas, Change, Plan, Rng, draw_size, severity_of

# The skin's outline (u towards the crown, v towards the back of the head), in half occipitofrontal diameters.
_OUTLINE = [
    (1.30, 0.22), (1.17, -0.25), (0.85, -0.57), (0.50, -0.70), (0.24, -0.70), (0.08, -0.645), (-0.06, -0.70),
    (-0.18, -0.86), (-0.25, -0.94), (-0.315, -0.87), (-0.35, -0.70), (-0.40, -0.735), (-0.455, -0.765),
    (-0.505, -0.68), (-0.56, -0.745), (-0.62, -0.69), (-0.675, -0.635), (-0.75, -0.69), (-0.86, -0.675),
    (-0.93, -0.56), (-0.93, -0.34), (-0.95, -0.14), (-1.15, -0.10), (-1.38, -0.06), (-1.38, 0.80), (-1.05, 0.88),
    (-0.60, 0.98), (-0.10, 1.22), (0.40, 1.30), (0.90, 1.05), (1.22, 0.62),
]  # fmt: skip


def plan_profile(weeks: float, rng: Rng, change: Change = None) -> Plan:  # noqa: ARG001 - no anomaly is shown here
    """Midsagittal: forehead, nose with its bone, lips, chin; palate and tongue behind, skull and brain above."""
    r = draw_size("ofd", weeks, rng) / 2
    nose, chin, lip = rng.uniform(0.93, 1.06), rng.uniform(0.96, 1.03), rng.uniform(0.97, 1.03)
    bone = biometry.nasal_bone_mm(weeks) * rng.uniform(0.9, 1.1)
    skull = 0.012 * r + rng.uniform(0.8, 1.2)

    def paint(c: Canvas) -> None:
        bends = {8: nose, 7: nose, 12: lip, 14: lip, 17: chin, 18: chin}
        skin = c.inside([(u * r, v * r * bends.get(i, 1.0)) for i, (u, v) in enumerate(_OUTLINE)])
        c.paint(skin, "skin")
        deep = [(0.96 * u * r, v * r * bends.get(i, 1.0) + 0.04 * r) for i, (u, v) in enumerate(_OUTLINE)]
        c.paint(c.inside(deep) & skin, "face-tissue")
        c.masks["head"] = skin & (c.u > -0.92 * r)
        _paint_cranium(c, r, skull)
        _paint_jaws(c, r)
        _paint_neck(c, r)
        _paint_features(c, r, bone)

    return Plan(paint, (1.4 * r, 1.3 * r), {"ofd": 2 * r, "nasal-bone": bone})


def _paint_cranium(c: Canvas, r: float, skull: float) -> None:
    vault = c.within(0.46 * r, 0.31 * r, 0.80 * r, 0.95 * r)
    inner = c.within(0.46 * r, 0.31 * r, 0.80 * r - skull, 0.95 * r - skull)
    c.paint(vault < 1, "skull")
    c.paint(inner < 1, "brain")
    c.paint(c.stroke([(0.05 * r, -0.45 * r), (-0.06 * r, 0.0), (-0.18 * r, 0.35 * r)], 0.04 * r), "face-bone")
    c.paint(
        (inner < 0.97) & (np.abs(c.within(0.30 * r, 0.28 * r, 0.26 * r, 0.42 * r) - 1) < 0.05) & (c.u > 0.3 * r), "wall"
    )
    c.paint(c.within(0.14 * r, 0.30 * r, 0.12 * r, 0.2 * r) < 1, "thalamus")
    c.paint(c.within(0.05 * r, 0.78 * r, 0.16 * r, 0.18 * r) < 1, "cerebellum-folia")


def _paint_jaws(c: Canvas, r: float) -> None:
    """Paint palate, tongue, mouth and mandible."""
    c.paint(c.within(-0.53 * r, -0.38 * r, 0.14 * r, 0.24 * r) < 1, "tongue")
    c.paint(c.within(-0.20 * r, -0.38 * r, 0.08 * r, 0.20 * r) < 1, "thalamus")  # nasal cavity
    c.paint(c.stroke([(-0.37 * r, -0.61 * r), (-0.34 * r, -0.38 * r), (-0.33 * r, -0.16 * r)], 0.035 * r), "face-bone")
    c.paint(c.stroke([(-0.505 * r, -0.72 * r), (-0.50 * r, -0.58 * r)], 0.02 * r), "fluid")
    c.masks["mandible"] = c.stroke([(-0.73 * r, -0.58 * r), (-0.79 * r, -0.50 * r), (-0.78 * r, -0.36 * r)], 0.06 * r)
    c.paint(c.masks["mandible"], "face-bone")


def _paint_neck(c: Canvas, r: float) -> None:
    for k in range(6):  # vertebral bodies and arches
        u = (-0.45 - 0.17 * k) * r
        c.paint(c.within(u, (0.40 + 0.02 * k) * r, 0.05 * r, 0.07 * r) < 1, "rib")
        c.paint(c.within(u, (0.68 + 0.02 * k) * r, 0.04 * r, 0.05 * r) < 1, "rib")


def _paint_features(c: Canvas, r: float, bone: float) -> None:
    """Paint the nasal bone, and mark nose and lips: what lies before the line from the nasion to the lip's base."""
    inside = c.masks["head"]
    line = -0.655 * r + (c.u - 0.04 * r) * 0.05
    c.masks["nose"] = inside & (c.u < 0.04 * r) & (c.u > -0.345 * r) & (c.v < line)
    c.masks["upper-lip"] = inside & (c.u <= -0.345 * r) & (c.u > -0.498 * r) & (c.v < -0.60 * r)
    c.masks["lower-lip"] = inside & (c.u <= -0.512 * r) & (c.u > -0.655 * r) & (c.v < -0.60 * r)
    for name in ("upper-lip", "lower-lip"):
        c.paint(c.masks[name] & (c.v < -0.66 * r), "skin")
    slope = np.array([-0.80, -0.60])
    start = np.array([0.045 * r, -0.605 * r])
    end = start + slope * (bone - 1.3)
    bone_line = [(float(start[0]), float(start[1])), (float(end[0]), float(end[1]))]
    c.masks["nasal-bone"] = c.stroke(bone_line, 1.3) & inside
    c.paint(c.masks["nasal-bone"], "face-bone")
    c.masks["nose"] &= ~c.masks["nasal-bone"]


def plan_lips(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Coronal through nose tip, lips and chin: u to the fetus' left, v towards the chin."""
    w = 0.17 * draw_size("bpd", weeks, rng) * rng.uniform(0.95, 1.05)  # half the mouth's width
    thick, tip = rng.uniform(0.9, 1.1), rng.uniform(0.92, 1.08)
    cleft = severity_of(change, "cleft-lip")

    def paint(c: Canvas) -> None:
        c.paint(c.within(0, 0.2 * w, 2.3 * w, 2.5 * w) < 1, "skin")
        c.paint(c.within(0, 0.2 * w, 2.2 * w, 2.4 * w) < 1, "soft")
        c.paint(
            c.within(0, 0.1 * w, 1.45 * w, 1.75 * w) < 1, "thalamus"
        )  # shade around the mouth: the slice leaves the skin
        _paint_nose(c, w, tip)
        bow = 0.10 * np.exp(-((c.u / (0.16 * w)) ** 2)) - 0.05 * np.exp(-(((np.abs(c.u) - 0.24 * w) / (0.18 * w)) ** 2))
        axis = w * (-0.14 + 0.20 * (c.u / w) ** 2 + bow * 0.6)
        half = w * 0.20 * thick * np.sqrt(np.clip(1 - (c.u / (0.98 * w)) ** 2, 0, 1))
        upper = np.abs(c.v - axis) < half
        lower = np.abs(c.v - w * (0.50 - 0.24 * (c.u / w) ** 2)) < 0.22 * w * thick * np.sqrt(
            np.clip(1 - (c.u / (0.86 * w)) ** 2, 0, 1)
        )
        c.paint(c.within(0, 0.12 * w, 0.98 * w, 0.2 * w) < 1, "fluid")  # the mouth's line
        c.masks["lower-lip"] = lower & (c.v > axis + half + 0.14 * w)
        c.paint(c.masks["lower-lip"], "sinus")
        c.paint(upper, "sinus")
        if cleft is not None:
            gap = np.abs(c.u - 0.30 * w) < cleft / 2
            c.paint(gap & (upper | ((c.v < -0.1 * w) & (c.v > -0.62 * w))), "fluid")
            upper &= ~gap
        c.masks["upper-lip"] = upper
        c.masks["mandible"] = c.stroke([(-0.5 * w, 1.15 * w), (0.0, 1.32 * w), (0.5 * w, 1.15 * w)], 0.2 * w)
        c.paint(c.within(0, 1.15 * w, 0.75 * w, 0.42 * w) < 1, "skin")
        c.paint(c.masks["mandible"], "face-bone")

    return Plan(paint, (2.3 * w, 2.7 * w), {"lip": 2 * 0.98 * w})


def _paint_nose(c: Canvas, w: float, tip: float) -> None:
    nose = (c.within(0, -0.95 * w, 0.50 * w * tip, 0.50 * w) < 1) | (
        c.within(0, -0.72 * w, 0.66 * w * tip, 0.26 * w) < 1
    )
    c.masks["nose"] = nose
    c.paint(nose, "brain-bright")
    c.paint(nose & (c.within(0, -0.86 * w, 0.48 * w * tip, 0.42 * w) > 1), "skin")
    for side in (-1, 1):
        c.paint(c.within(side * 0.28 * w, -0.66 * w, 0.15 * w, 0.10 * w, side * 0.35) < 1, "fluid")


FACE_PLANS: dict[str, Callable[..., Plan]] = {"face": plan_profile, "face-lips": plan_lips}
