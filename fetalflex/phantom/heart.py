"""The thorax: four-chamber view of the heart; u anterior, v the fetus' left.

Which structures and where: ISUOG Practice Guidelines (fetal cardiac screening), Ultrasound Obstet Gynecol
2013;41:348-59, updated 2023;61:788-803.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fetalflex.anatomy import biometry
from fetalflex.phantom.canvas import (
    Canvas,
    Change,
    Plan,
    Rng,
    draw_size,
    paint_ribs,
    paint_spine,
    semi_axes,
    severity_of,
)
from fetalflex.phantom.tissues import INDEX

SEPTUM = 0.07  # half its thickness, in the heart's half width
_VALVES = -0.275  # their place along the axis
# name: centre p, centre q, half length, half width; of a normal heart: right and left of about one size
CHAMBERS = {
    "left-ventricle": (0.22, 0.38, 0.54, 0.31), "right-ventricle": (0.16, -0.40, 0.47, 0.34),
    "left-atrium": (-0.55, 0.36, 0.26, 0.31), "right-atrium": (-0.54, -0.38, 0.27, 0.33),
}  # fmt: skip
_SINGLE = CHAMBERS | {"left-ventricle": (0.20, 0.0, 0.56, 0.68)}


@dataclass(frozen=True)
class _Heart:
    """Where the heart lies and how large it is: middle (u, v), half sizes, axis (radians), chambers' width."""

    middle: tuple[float, float]
    half: tuple[float, float]
    axis: float
    opening: float


def plan_heart(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Four-chamber view: apex to the left at about 45 degrees, left atrium next to the spine."""
    circumference = draw_size("ac", weeks, rng) * (
        biometry.thoracic_circumference_mm(weeks) / biometry.mean_mm("ac", weeks)
    )
    b, a = semi_axes(circumference, float(rng.uniform(0.88, 0.98)))  # wider than deep
    share = biometry.CARDIOTHORACIC_RATIO + biometry.CARDIOTHORACIC_SD * float(np.clip(rng.normal(), -2, 2))
    asked = severity_of(change, "cardiomegaly")
    normal = share
    share = normal if asked is None else asked
    half = semi_axes(share * circumference, float(rng.uniform(0.74, 0.82)))
    axis = np.deg2rad(np.clip(rng.normal(45, 7), 32, 58))
    middle = (rng.uniform(0.08, 0.14) * a, rng.uniform(0.06, 0.12) * b)
    if asked is not None:  # a large heart fills the chest from the middle
        left = max(0.0, (0.8 - share) / (0.8 - normal))
        middle = (middle[0] + (0.10 * a - middle[0]) * (1 - left), middle[1] * left)
    skin, opening = rng.uniform(1.3, 2.2), rng.uniform(0.9, 1.08)
    heart = _Heart(middle, half, float(axis), opening)

    def paint(c: Canvas) -> None:
        c.masks["thorax"] = c.within(0, 0, a, b) < 1
        c.paint(c.masks["thorax"], "skin")
        c.paint(c.within(0, 0, a - skin, b - skin) < 1, "soft")
        c.paint(c.within(0, 0, 0.9 * a, 0.9 * b) < 1, "lung")
        paint_ribs(c, a, b, 0.93, (0.7, 2.45))
        paint_spine(c, -0.74 * a, 0.125 * b)
        c.paint(c.within(-0.52 * a, 0.12 * b, 0.06 * b, 0.06 * b) < 1, "blood")  # descending aorta
        _paint_heart(c, heart, change)

    return Plan(paint, (a, b), {"thorax": circumference, "heart": share * circumference})


def _paint_heart(c: Canvas, heart: _Heart, change: Change) -> None:
    """Four chambers in the heart's own frame: p from base to apex, q to the fetus' left; both in half sizes."""
    half = heart.half
    cos, sin = np.cos(heart.axis), np.sin(heart.axis)
    du, dv = c.u - heart.middle[0], c.v - heart.middle[1]
    p, q = (du * cos + dv * sin) / half[0], (-du * sin + dv * cos) / half[1]
    radius = np.sqrt(p**2 + q**2)
    c.masks["heart"] = radius < 1
    c.paint(c.masks["heart"], "wall")
    c.paint(radius < 0.95, "myocardium")
    single = severity_of(change, "single-ventricle") is not None
    chambers = _SINGLE if single else CHAMBERS
    for name, (cp, cq, length, width) in chambers.items():
        if single and name == "right-ventricle":
            continue
        shape = (np.abs((p - cp) / length) ** 2.5 + np.abs((q - cq) / (width * heart.opening)) ** 2.5) < 1
        parted = (np.abs(q) > SEPTUM) | (cq == 0)
        c.masks[name] = shape & parted & (radius < 0.88)
        c.paint(c.masks[name], "blood")
    c.paint((np.abs(p - _VALVES + 0.04 * np.sign(q)) < 0.025) & (np.abs(q) < 0.66), "wall")  # valves: the cross
    for name in chambers:
        if name in c.masks:
            c.masks[name] &= c.tissue == INDEX["blood"]
    if not single:
        c.paint((np.abs(q) < 0.03) & (p > -0.25) & (p < 0.8), "wall")
    for name, place in (("ventricular-septal-defect", 0.12), ("atrioventricular-septal-defect", _VALVES)):
        gap = severity_of(change, name)
        if gap is not None:
            hole = (np.abs(q) <= SEPTUM + 0.015) & (np.abs(p - place) * half[0] < gap / 2)
            c.paint(hole, "blood")
            c.masks["septal-defect"] = hole


def plan_thorax(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """The same section, of which only thorax, heart and spine are known."""
    whole = plan_heart(weeks, rng, change)

    def paint(c: Canvas) -> None:
        whole.paint(c)
        c.masks = {name: c.masks[name] for name in ("thorax", "heart", "spine")}

    return Plan(paint, whole.half, whole.sizes_mm)


HEART_PLANS: dict[str, Callable[..., Plan]] = {"four-chamber": plan_heart, "thorax": plan_thorax}
