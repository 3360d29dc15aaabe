"""Fetal anatomy of four standard planes as shapes in mm, sized by gestational age.

A plan is painted on any grid of points, so that the label map on the image and the tissue map along the scan lines are
the same anatomy, each exact. Coordinates (u, v) are the fetus' own: the origin is the middle of the part that
the plane shows. Sources: sizes in `anatomy.biometry`; which structures and where: ISUOG Practice Guidelines
(fetal CNS 2020, routine scan 2022, cardiac screening 2013/2023). Shares without a source are estimates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy import biometry
from fetalflex.anatomy.biometry import Measure
from fetalflex.errors import LayoutError
from fetalflex.phantom.tissues import INDEX

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator


class Canvas:
    """Points (u, v) in mm with their tissue (-1: not the fetus) and the masks of the structures painted so far."""

    def __init__(self, u: Floats, v: Floats) -> None:
        self.u, self.v = u, v
        self.tissue = np.full(u.shape, -1, np.int8)
        self.masks: dict[str, Mask] = {}

    def paint(self, where: Mask, tissue: str) -> None:
        """Give the points of a mask a tissue."""
        self.tissue[where] = INDEX[tissue]

    def within(self, u: float, v: float, a: float, b: float, angle: float = 0.0) -> Floats:
        """Return the normalised radius (inside: below 1) of an ellipse at (u, v), semi-axes a, b, turned by `angle`."""
        c, s = np.cos(angle), np.sin(angle)
        p, q = (self.u - u) * c + (self.v - v) * s, -(self.u - u) * s + (self.v - v) * c
        return np.sqrt((p / a) ** 2 + (q / b) ** 2)


@dataclass(frozen=True)
class Plan:
    """What to paint. `half`: half sizes (u, v) in mm of the part with its skin; `sizes_mm`: its true measures."""

    paint: Callable[[Canvas], None]
    half: tuple[float, float]
    sizes_mm: dict[str, float]


def plan(plane: str, weeks: float, rng: Rng) -> Plan:
    """Return a plan with natural variation drawn from `rng`. Raises: LayoutError for a plane without a plan."""
    if plane not in PLANS:
        raise LayoutError(f"the phantom has no plane {plane!r}; expected one of {', '.join(PLANS)}")
    return PLANS[plane](weeks, rng)


def semi_axes(circumference: float, ratio: float) -> tuple[float, float]:
    """Return the semi-axes of the ellipse with that circumference and short/long ratio (Ramanujan, 1914)."""
    h = 3 * (1 + ratio) - sqrt((3 + ratio) * (1 + 3 * ratio))
    a = circumference / (pi * h)
    return a, a * ratio


def _size(measure: Measure, weeks: float, rng: Rng) -> float:
    """Return a size within two standard deviations of the mean for the age."""
    z = float(np.clip(rng.normal(0, 0.8), -2, 2))
    return biometry.mean_mm(measure, weeks) + z * biometry.sd_mm(measure, weeks)


def plan_head(weeks: float, rng: Rng) -> Plan:
    """Trans-ventricular: skull, falx broken by the cavum, distal ventricle with choroid plexus; u forward, v distal."""
    hc = _size("hc", weeks, rng)
    a, b = semi_axes(hc, float(np.clip(rng.normal(0.78, 0.03), 0.71, 0.86)))
    skull, scalp = 0.028 * b + rng.uniform(0.8, 1.3), rng.uniform(1.5, 3.0)
    width = biometry.ATRIAL_WIDTH_MM + biometry.ATRIAL_WIDTH_SD_MM * float(np.clip(rng.normal(), -2, 2))
    box = biometry.csp_width_mm(weeks) * rng.uniform(0.9, 1.15)
    front, slope, choroid = rng.uniform(0.34, 0.42) * a, rng.uniform(0.16, 0.26), rng.uniform(0.5, 0.8)

    def paint(c: Canvas) -> None:
        outer = c.within(0, 0, a, b)
        c.paint(c.within(0, 0, a + scalp, b + scalp) < 1, "skin")
        c.masks["head"] = outer < 1
        c.paint(c.masks["head"], "skull")
        inner = c.within(0, 0, a - skull, b - skull)
        c.paint(inner < 1, "cortex")
        c.paint(inner < 0.93, "brain")
        # The proximal skull reverberates over the proximal hemisphere.
        c.paint((inner < 0.96) & (inner > 0.42) & (c.v < 0), "haze-faint")
        c.paint((inner < 0.96) & (inner > 0.66) & (c.v < -0.1 * b), "haze")
        c.paint((np.abs(c.v) < 0.25 + 0.006 * b) & (inner < 0.97), "falx")
        arc = c.within(0.05 * a, 0.1 * b, 0.55 * a, 0.66 * b)  # insula, seen as a bright arc
        c.paint((np.abs(arc - 1) < 0.02) & (c.v > 0.52 * b) & (inner < 0.9), "wall")
        _paint_cavum(c, front, box)
        _paint_ventricle(c, a, b, width, slope, choroid)

    return Plan(paint, (a + scalp, b + scalp), {"hc": hc, "bpd": 2 * b, "ofd": 2 * a, "atrium": width, "csp": box})


def _paint_cavum(c: Canvas, front: float, box: float) -> None:
    """A dark box on the midline between two lines, a third of the way from the front; about twice as long as wide."""
    # A superellipse: a box with rounded corners.
    radius = (np.abs((c.u - front) / box) ** 4 + np.abs(c.v / (box / 2)) ** 4) ** 0.25
    lines = (np.abs(c.u - front) < box) & (np.abs(c.v) >= box / 2) & (np.abs(c.v) < box / 2 + 0.8)
    c.paint(lines, "falx")
    c.masks["csp"] = radius < 1
    c.paint(c.masks["csp"], "csf")


def _paint_ventricle(c: Canvas, a: float, b: float, width: float, slope: float, choroid: float) -> None:
    """A band from the frontal horn back to the occipital one, moving away from the midline, widest at the atrium."""
    start, end = 0.34 * a, -0.66 * a
    t = np.clip((start - c.u) / (start - end), 0, 1)  # 0 at the frontal horn, 1 at the occipital
    axis = b * (0.24 + slope * t + 0.10 * t**2)
    profile = np.interp(t, [0, 0.04, 0.35, 0.68, 0.85, 0.96, 1], [0, 0.3, 0.48, 1, 0.86, 0.45, 0])
    # Across the band's axis, not along v: its slope shortens the distance.
    tilt = 1 / np.sqrt(1 + ((slope + 0.2 * t) * b / (start - end)) ** 2)
    distance = np.abs(c.v - axis) * tilt
    along = (c.u < start) & (c.u > end)
    lumen = along & (distance < profile * width / 2)
    c.paint(along & (distance < profile * width / 2 + 0.75) & (profile > 0.3), "wall")
    c.paint(lumen, "csf")
    plexus = np.interp(t, [0.4, 0.5, 0.68, 0.78, 0.84], [0, 0.6, choroid, 0.6 * choroid, 0])
    # It hangs towards the dependent wall, so it does not fill the lumen evenly.
    hanging = np.abs((c.v - axis) * tilt - 0.12 * width * profile)
    c.paint(lumen & (hanging < plexus * profile * width / 2), "choroid")
    c.masks["lateral-ventricle"] = lumen


def plan_abdomen(weeks: float, rng: Rng) -> Plan:
    """Transverse abdomen: stomach left, umbilical vein in the liver, spine and ribs; u anterior, v the fetus' left."""
    ac = _size("ac", weeks, rng)
    a, b = semi_axes(ac, float(rng.uniform(0.90, 1.0)))
    skin, vertebra = rng.uniform(1.4, 2.4), 0.12 * b
    length = biometry.stomach_length_mm(weeks) * rng.uniform(0.8, 1.25)
    stomach = (
        rng.uniform(-0.12, 0.06) * a,
        rng.uniform(0.42, 0.5) * b,
        rng.uniform(0.55, 0.85),
        rng.uniform(-0.5, 0.5),
    )
    vein = rng.uniform(0.06, 0.08) * b
    bend = rng.uniform(0.25, 0.4)

    def paint(c: Canvas) -> None:
        c.masks["abdomen"] = c.within(0, 0, a, b) < 1
        c.paint(c.masks["abdomen"], "skin")
        c.paint(c.within(0, 0, a - skin, b - skin) < 1, "soft")
        c.paint(c.within(0, 0, 0.91 * a, 0.91 * b) < 1, "liver")
        _paint_ribs(c, a, b, 0.93, (1.9, 2.45))
        _paint_spine(c, -0.72 * a, vertebra)
        c.paint(c.within(-0.5 * a, 0.06 * b, 0.055 * b, 0.055 * b) < 1, "blood")  # aorta
        c.paint(c.within(-0.46 * a, -0.16 * b, 0.05 * b, 0.06 * b) < 1, "blood")  # inferior vena cava
        u, v, ratio, angle = stomach
        c.paint(c.within(u, v, length / 2 + 0.8, ratio * length / 2 + 0.8, angle) < 1, "wall")
        c.masks["stomach"] = c.within(u, v, length / 2, ratio * length / 2, angle) < 1
        c.paint(c.masks["stomach"], "fluid")
        # From the anterior wall straight in for a third, then bending to the right: the hockey stick.
        depth = np.clip((0.5 * a - c.u) / (0.5 * a), 0, 1)
        axis = -bend * b * depth**2
        along = (c.u < 0.5 * a) & (c.u > 0.02 * a)
        c.paint(along & (np.abs(c.v - axis) < vein + 0.7), "wall")
        c.masks["umbilical-vein"] = along & (np.abs(c.v - axis) < vein) & ~c.masks["stomach"]
        c.paint(c.masks["umbilical-vein"], "blood")

    return Plan(paint, (a, b), {"ac": ac, "stomach": length})


def _paint_ribs(c: Canvas, a: float, b: float, radius: float, span: tuple[float, float]) -> None:
    """Short bright arcs on both sides of the wall; `span`: polar angles from anterior, in radians."""
    angle = np.abs(np.arctan2(c.v / b, c.u / a))
    c.paint((np.abs(c.within(0, 0, a, b) - radius) < 0.9 / b) & (angle > span[0]) & (angle < span[1]), "rib")


def _paint_spine(c: Canvas, u: float, radius: float) -> None:
    """Three ossification centres around the canal: body in front, two arches behind."""
    c.masks["spine"] = c.within(u, 0, radius, radius) < 1
    c.paint(c.masks["spine"], "soft")
    c.paint(c.within(u, 0, 0.3 * radius, 0.3 * radius) < 1, "fluid")
    for du, dv in ((0.6, 0.0), (-0.38, 0.58), (-0.38, -0.58)):
        c.paint(c.within(u + du * radius, dv * radius, 0.3 * radius, 0.3 * radius) < 1, "bone")


def plan_heart(weeks: float, rng: Rng) -> Plan:
    """Four-chamber view: apex to the left at about 45 degrees, left atrium next to the spine; u anterior, v left."""
    circumference = _size("ac", weeks, rng) * biometry.thoracic_circumference_mm(weeks) / biometry.mean_mm("ac", weeks)
    b, a = semi_axes(circumference, float(rng.uniform(0.88, 0.98)))  # wider than deep
    share = biometry.CARDIOTHORACIC_RATIO + biometry.CARDIOTHORACIC_SD * float(np.clip(rng.normal(), -2, 2))
    long, short = semi_axes(share * circumference, float(rng.uniform(0.74, 0.82)))
    axis = np.deg2rad(np.clip(rng.normal(45, 7), 32, 58))
    middle = (rng.uniform(0.08, 0.14) * a, rng.uniform(0.06, 0.12) * b)
    skin, opening = rng.uniform(1.3, 2.2), rng.uniform(0.9, 1.08)

    def paint(c: Canvas) -> None:
        c.masks["thorax"] = c.within(0, 0, a, b) < 1
        c.paint(c.masks["thorax"], "skin")
        c.paint(c.within(0, 0, a - skin, b - skin) < 1, "soft")
        c.paint(c.within(0, 0, 0.9 * a, 0.9 * b) < 1, "lung")
        _paint_ribs(c, a, b, 0.93, (0.7, 2.45))
        _paint_spine(c, -0.74 * a, 0.125 * b)
        c.paint(c.within(-0.52 * a, 0.12 * b, 0.06 * b, 0.06 * b) < 1, "blood")  # descending aorta
        _paint_heart(c, middle, (long, short), axis, opening)

    return Plan(paint, (a, b), {"thorax": circumference, "heart": share * circumference})


def _paint_heart(
    c: Canvas, middle: tuple[float, float], half: tuple[float, float], axis: float, opening: float
) -> None:
    """Four chambers in the heart's own frame: p from base to apex, q to the fetus' left; both in half sizes."""
    cos, sin = np.cos(axis), np.sin(axis)
    du, dv = c.u - middle[0], c.v - middle[1]
    p, q = (du * cos + dv * sin) / half[0], (-du * sin + dv * cos) / half[1]
    radius = np.sqrt(p**2 + q**2)
    c.masks["heart"] = radius < 1
    c.paint(c.masks["heart"], "wall")
    c.paint(radius < 0.95, "myocardium")
    septum = 0.07
    # name: centre p, centre q, half length, half width
    chambers = {  # of a normal heart: right and left of about one size
        "left-ventricle": (0.22, 0.38, 0.54, 0.31), "right-ventricle": (0.16, -0.40, 0.47, 0.34),
        "left-atrium": (-0.55, 0.36, 0.26, 0.31), "right-atrium": (-0.54, -0.38, 0.27, 0.33),
    }  # fmt: skip
    for name, (cp, cq, length, width) in chambers.items():
        shape = (np.abs((p - cp) / length) ** 2.5 + np.abs((q - cq) / (width * opening)) ** 2.5) < 1
        c.masks[name] = shape & (np.abs(q) > septum) & (radius < 0.88)
        c.paint(c.masks[name], "blood")
    c.paint((np.abs(p + 0.275 + 0.04 * np.sign(q)) < 0.025) & (np.abs(q) < 0.66), "wall")  # valves: the cross
    for name in chambers:
        c.masks[name] &= c.tissue == INDEX["blood"]
    c.paint((np.abs(q) < 0.03) & (p > -0.25) & (p < 0.8), "wall")


def plan_femur(weeks: float, rng: Rng) -> Plan:
    """Femur along u in the thigh: a slightly bowed shaft with flared ends; only its ossified part is femur."""
    length = _size("fl", weeks, rng)
    width = 0.055 * length + 1.0
    thigh = 0.25 * length + rng.uniform(2.0, 5.0)
    bow = rng.uniform(-0.03, 0.03) * length
    reach, tilt = 0.5 * length + rng.uniform(9, 16), rng.uniform(-0.06, 0.06)

    def paint(c: Canvas) -> None:
        radius = (np.abs(c.u / reach) ** 3 + np.abs((c.v - tilt * c.u) / thigh) ** 2.4) ** (1 / 2.4)
        c.paint(radius < 1, "skin")
        c.paint(radius < 0.94, "soft")
        fascia = np.abs(np.abs(c.v - tilt * c.u) - 0.52 * thigh) < 0.35
        c.paint(fascia & (radius < 0.85), "maternal-muscle")
        for end in (-1, 1):  # cartilage of the ends: dark, not part of the measured shaft
            c.paint(c.within(end * 0.54 * length, 0, 0.07 * length, 0.09 * length) < 1, "cortex")
        along = 2 * c.u / length
        thick = width / 2 * (0.85 + 0.35 * along**6)
        shaft = (np.abs(along) < 1) & (np.abs(c.v - bow * (along**2 - 0.4)) < thick)
        c.masks["femur"] = shaft
        c.paint(shaft, "shaft")

    return Plan(paint, (reach, thigh), {"fl": length})


PLANS: dict[str, Callable[[float, Rng], Plan]] = {
    "transventricular": plan_head,
    "abdomen": plan_abdomen,
    "four-chamber": plan_heart,
    "femur": plan_femur,
}
