"""The abdomen's planes: at the stomach and umbilical vein, and at the kidneys; u anterior, v the fetus' left.

Which structures and where: ISUOG Practice Guidelines, routine mid-trimester scan, Ultrasound Obstet Gynecol
2022;59:840-56.
"""

from collections.abc import Callable

import numpy as np

from fetalflex.anatomy import biometry
from fetalflex.phantom.canvas import (
    Canvas,
    Change,
    Mask,
    Plan,
    Rng,
    draw_size,
    paint_ribs,
    paint_spine,
    semi_axes,
    severity_of,
)

Ellipse = tuple[float, float, float, float, float]  # u, v, half length, half width, angle


def plan_abdomen(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Transverse abdomen: stomach left, umbilical vein in the liver, spine and ribs."""
    ac = draw_size("ac", weeks, rng)
    a, b = semi_axes(ac, float(rng.uniform(0.90, 1.0)))
    skin, vertebra = rng.uniform(1.4, 2.4), 0.12 * b
    length = biometry.stomach_length_mm(weeks) * rng.uniform(0.8, 1.25)
    u, v = rng.uniform(-0.12, 0.06) * a, rng.uniform(0.42, 0.5) * b
    ratio, angle = rng.uniform(0.55, 0.85), rng.uniform(-0.5, 0.5)
    stomach = (u, v, length / 2, ratio * length / 2, angle)
    vein = rng.uniform(0.06, 0.08) * b
    bend = rng.uniform(0.25, 0.4)
    sac = severity_of(change, "omphalocele") or 0.0

    def paint(c: Canvas) -> None:
        if sac:
            _paint_sac(c, a, sac)
        c.masks["abdomen"] = c.within(0, 0, a, b) < 1
        c.paint(c.masks["abdomen"], "skin")
        c.paint(c.within(0, 0, a - skin, b - skin) < 1, "soft")
        c.paint(c.within(0, 0, 0.91 * a, 0.91 * b) < 1, "liver")
        paint_ribs(c, a, b, 0.93, (1.9, 2.45))
        paint_spine(c, -0.72 * a, vertebra)
        c.paint(c.within(-0.5 * a, 0.06 * b, 0.055 * b, 0.055 * b) < 1, "blood")  # aorta
        c.paint(c.within(-0.46 * a, -0.16 * b, 0.05 * b, 0.06 * b) < 1, "blood")  # inferior vena cava
        empty = np.zeros(c.u.shape, bool)
        if severity_of(change, "absent-stomach") is None:
            _paint_stomach(c, stomach)
        _paint_vein(c, a, b, (vein, bend), c.masks.get("stomach", empty))
        _paint_duodenum(c, stomach, severity_of(change, "double-bubble"))
        if sac:  # the wall is open where the sac leaves
            c.paint((c.u > 0.80 * a) & (np.abs(c.v) < 0.22 * sac) & c.masks["abdomen"], "liver")
            c.masks["omphalocele"] &= ~c.masks["abdomen"]

    return Plan(paint, (a + 0.84 * sac, b), {"ac": ac, "stomach": length})


def _paint_stomach(c: Canvas, stomach: Ellipse) -> None:
    u, v, long, short, angle = stomach
    c.paint(c.within(u, v, long + 0.8, short + 0.8, angle) < 1, "wall")
    c.masks["stomach"] = c.within(u, v, long, short, angle) < 1
    c.paint(c.masks["stomach"], "fluid")


def _paint_vein(c: Canvas, a: float, b: float, shape: tuple[float, float], stomach: Mask) -> None:
    """From the anterior wall straight in for a third, then bending to the right: the hockey stick."""
    vein, bend = shape
    depth = np.clip((0.5 * a - c.u) / (0.5 * a), 0, 1)
    axis = -bend * b * depth**2
    along = (c.u < 0.5 * a) & (c.u > 0.02 * a)
    c.paint(along & (np.abs(c.v - axis) < vein + 0.7), "wall")
    c.masks["umbilical-vein"] = along & (np.abs(c.v - axis) < vein) & ~stomach
    c.paint(c.masks["umbilical-vein"], "blood")


def _paint_duodenum(c: Canvas, stomach: Ellipse, diameter: float | None) -> None:
    """The second bubble: a round fluid space to the right of the stomach, behind the vein."""
    if diameter is None:
        return
    radius = diameter / 2
    u, v, _, short, angle = stomach
    reach = float(np.hypot(stomach[2] * np.sin(angle), short * np.cos(angle)))
    middle = (min(u, -radius - 1.0), v - reach - 1.4 - radius)
    c.paint(c.within(*middle, radius + 0.8, radius + 0.8) < 1, "wall")
    c.masks["duodenum"] = (c.within(*middle, radius, radius) < 1) & ~c.masks["stomach"]
    c.masks["umbilical-vein"] &= ~c.masks["duodenum"]
    c.paint(c.masks["duodenum"], "fluid")
    c.paint(c.masks["stomach"], "fluid")


def _paint_sac(c: Canvas, a: float, diameter: float) -> None:
    """A sac before the anterior wall: membrane, liver, loops of bowel. Its longest diameter lies along the wall."""
    u = a - 1.0 + 0.42 * diameter
    c.masks["omphalocele"] = c.within(u, 0, 0.42 * diameter, 0.5 * diameter) < 1
    c.paint(c.masks["omphalocele"], "fascia")
    c.paint(c.within(u, 0, 0.42 * diameter - 0.8, 0.5 * diameter - 0.8) < 1, "liver")
    for du, dv in ((0.12, -0.24), (0.2, 0.05), (-0.05, 0.26)):
        loop = c.within(u + du * diameter, dv * diameter, 0.11 * diameter, 0.09 * diameter)
        c.paint(loop < 1, "wall")
        c.paint(loop < 0.7, "soft")


def plan_kidneys(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Transverse abdomen behind the stomach: two kidneys beside the spine, each with its sinus and pelvis."""
    ac = draw_size("ac", weeks, rng)
    a, b = semi_axes(ac, float(rng.uniform(0.88, 0.98)))
    skin, vertebra = rng.uniform(1.4, 2.4), 0.13 * b
    wide = severity_of(change, "hydronephrosis")
    kidneys = []
    for side in (-1, 1):  # the fetus' right, left
        depth = biometry.kidney_depth_mm(weeks) * float(np.clip(rng.normal(1, 0.06), 0.88, 1.12))
        pelvis = float(np.clip(rng.normal(2.0, 0.5), 1.2, 3.2))
        pelvis = wide if wide is not None and side == 1 else pelvis
        long, short = max(0.55 * depth, 0.62 * pelvis + 3.0), max(0.5 * depth, 0.5 * pelvis + 2.4)
        v = max(rng.uniform(0.37, 0.42) * b, vertebra + long + 1.5)
        u = rng.uniform(-0.46, -0.40) * a if wide is None else -0.40 * a
        kidneys.append((side, u, v, short, long, pelvis))

    def paint(c: Canvas) -> None:
        c.masks["abdomen"] = c.within(0, 0, a, b) < 1
        c.paint(c.masks["abdomen"], "skin")
        c.paint(c.within(0, 0, a - skin, b - skin) < 1, "soft")
        c.paint(c.within(0, 0, 0.91 * a, 0.91 * b) < 1, "liver")
        bowel = (c.within(0.35 * a, 0.2 * b, 0.45 * a, 0.55 * b) < 1) & (np.sin(c.u / 1.9) * np.sin(c.v / 2.3) > 0.35)
        c.paint(bowel, "soft")
        for side in (-1, 1):  # psoas
            c.paint(c.within(-0.66 * a, side * 2.2 * vertebra, 0.1 * a, 0.09 * b) < 1, "maternal-muscle")
        paint_ribs(c, a, b, 0.93, (2.1, 2.55))
        paint_spine(c, -0.72 * a, vertebra)
        c.paint(c.within(-0.50 * a, 0.06 * b, 0.055 * b, 0.055 * b) < 1, "blood")
        c.paint(c.within(-0.48 * a, -0.13 * b, 0.05 * b, 0.06 * b) < 1, "blood")
        c.masks["kidney"] = np.zeros(c.u.shape, bool)
        c.masks["renal-pelvis"] = np.zeros(c.u.shape, bool)
        for kidney in kidneys:
            _paint_kidney(c, *kidney)

    sizes = {"ac": ac, "right-pelvis": kidneys[0][5], "left-pelvis": kidneys[1][5]}
    return Plan(paint, (a, b), sizes)


def _paint_kidney(c: Canvas, side: int, u: float, v: float, short: float, long: float, pelvis: float) -> None:
    """An oval with capsule, dark pyramids, bright sinus; the pelvis opens to the middle, `pelvis` mm deep along u."""
    middle = side * v
    tilt = side * 0.25
    kidney = c.within(u, middle, short, long, tilt) < 1
    c.paint(c.within(u, middle, short + 0.7, long + 0.7, tilt) < 1, "wall")
    c.paint(kidney, "kidney")
    for angle in np.deg2rad((35, 80, 125, -35, -80, -125)):
        du, dv = 0.68 * short * np.sin(angle), 0.68 * long * np.cos(angle)
        pyramid = c.within(u + du, middle + side * dv, 0.17 * short, 0.17 * long) < 1
        c.paint(pyramid & kidney, "medulla")
    across = 0.62 * pelvis + 1.0
    inner = middle - side * 0.10 * long
    sinus = c.within(u, inner, max(0.42 * short, pelvis / 2 + 0.8), max(0.46 * long, across + 0.8)) < 1
    c.paint(sinus & kidney, "sinus")
    lumen = (c.within(u, inner, pelvis / 2, across) < 1) & kidney
    c.paint(lumen, "fluid")
    c.masks["kidney"] |= kidney
    c.masks["renal-pelvis"] |= lumen


TRUNK_PLANS: dict[str, Callable[..., Plan]] = {"abdomen": plan_abdomen, "kidneys": plan_kidneys}
