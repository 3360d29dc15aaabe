"""The brain's three axial planes: trans-ventricular, trans-thalamic, trans-cerebellar.

u points to the front, v to the hemisphere away from the probe. Which structures and where: ISUOG Practice Guidelines,
sonographic examination of the fetal central nervous system, part 1, Ultrasound Obstet Gynecol 2020;56:476-84.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fetalflex.anatomy import biometry
from fetalflex.errors import LayoutError
from fetalflex.phantom.canvas import Canvas, Change, Floats, Plan, Rng, draw_size, paint_cavum, semi_axes, severity_of

_ROOM = 0.9  # of the half head's height that a wide ventricle may reach


@dataclass(frozen=True)
class _Head:
    """A head's half length, half width, skull and scalp in mm."""

    hc: float
    a: float
    b: float
    skull: float
    scalp: float

    def sizes(self) -> dict[str, float]:
        return {"hc": self.hc, "bpd": 2 * self.b, "ofd": 2 * self.a}


def _draw_head(weeks: float, rng: Rng, change: Change) -> _Head:
    hc = draw_size("hc", weeks, rng)
    ratio = float(np.clip(rng.normal(0.78, 0.03), 0.71, 0.86))
    for name in ("microcephaly", "macrocephaly"):
        z = severity_of(change, name)
        hc = hc if z is None else biometry.mean_mm("hc", weeks) + z * biometry.sd_mm("hc", weeks)
    index = severity_of(change, "dolichocephaly")
    a, b = semi_axes(hc, ratio if index is None else index / 100)
    return _Head(hc, a, b, 0.028 * b + rng.uniform(0.8, 1.3), rng.uniform(1.5, 3.0))


def _paint_head(c: Canvas, head: _Head) -> Floats:
    """Paint scalp, skull, brain, the near field's haze and the midline; return the inner table's normalised radius."""
    a, b = head.a, head.b
    outer = c.within(0, 0, a, b)
    c.paint(c.within(0, 0, a + head.scalp, b + head.scalp) < 1, "skin")
    c.masks["head"] = outer < 1
    c.paint(c.masks["head"], "skull")
    inner = c.within(0, 0, a - head.skull, b - head.skull)
    c.paint(inner < 1, "cortex")
    c.paint(inner < 0.93, "brain")
    # The proximal skull reverberates over the proximal hemisphere.
    c.paint((inner < 0.96) & (inner > 0.42) & (c.v < 0), "haze-faint")
    c.paint((inner < 0.96) & (inner > 0.66) & (c.v < -0.1 * b), "haze")
    c.paint((np.abs(c.v) < 0.25 + 0.006 * b) & (inner < 0.97), "falx")
    return inner


def _paint_middle(c: Canvas, front: float, box: float, change: Change) -> None:
    """Paint the cavum; where it is absent, the frontal horns meet in one fluid space across the midline."""
    if severity_of(change, "absent-csp") is None:
        paint_cavum(c, front, box)
        if "thalami" in c.masks:
            c.masks["thalami"] &= ~c.masks["csp"]
    else:
        c.paint(c.within(front + 0.3 * box, 0, 0.9 * box, 1.3 * box) < 1, "csf")


def plan_transventricular(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Skull, falx broken by the cavum, distal ventricle with choroid plexus."""
    head = _draw_head(weeks, rng, change)
    a, b = head.a, head.b
    width = biometry.ATRIAL_WIDTH_MM + biometry.ATRIAL_WIDTH_SD_MM * float(np.clip(rng.normal(), -2, 2))
    box = biometry.csp_width_mm(weeks) * rng.uniform(0.9, 1.15)
    front, slope, choroid = rng.uniform(0.34, 0.42) * a, rng.uniform(0.16, 0.26), rng.uniform(0.5, 0.8)
    wide = severity_of(change, "ventriculomegaly")
    cyst = severity_of(change, "choroid-plexus-cyst")
    if wide is not None and wide > _ROOM * 0.9 * (b - head.skull) - 1.6:
        raise LayoutError(f"the phantom's head of {2 * b:.0f} mm has no room for a ventricle of {wide:g} mm")

    def paint(c: Canvas) -> None:
        inner = _paint_head(c, head)
        arc = c.within(0.05 * a, 0.1 * b, 0.55 * a, 0.66 * b)  # insula, seen as a bright arc
        c.paint((np.abs(arc - 1) < 0.02) & (c.v > 0.52 * b) & (inner < 0.9), "wall")
        _paint_middle(c, front, box, change)
        if wide is None:
            _paint_ventricle(c, a, b, width, slope, choroid)
        else:
            _paint_wide_ventricle(c, head, wide, slope)
        if cyst is not None:
            _paint_cyst(c, a, b, slope, cyst)

    sizes = head.sizes() | {"atrium": width if wide is None else wide, "csp": box}
    return Plan(paint, (a + head.scalp, b + head.scalp), sizes)


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


def _paint_wide_ventricle(c: Canvas, head: _Head, width: float, slope: float) -> None:
    """A dilated ventricle: a drop, widest at the atrium, kept between midline and skull."""
    a, b, radius = head.a, head.b, width / 2
    at = -0.30 * a
    top = _ROOM * (b - head.skull) * np.sqrt(1 - (at / (a - head.skull)) ** 2)
    middle = max(min(b * (0.30 + slope * 0.66), top - radius), radius + 0.8)
    lumen = c.within(at, middle, radius, radius) < 1
    # A dull frontal and a short occipital horn taper away from the circle that the caliper measures.
    horn = max(0.26 * b, 0.3 * radius + 1.2)
    for u, v, end in ((0.34 * a, horn, 0.3 * radius + 0.6), (-0.62 * a, 0.8 * middle, 0.35 * radius + 0.5)):
        du, dv = u - at, v - middle
        t = np.clip(((c.u - at) * du + (c.v - middle) * dv) / (du * du + dv * dv), 0, 1)
        lumen |= np.hypot(c.u - at - t * du, c.v - middle - t * dv) < radius + (end - radius) * t
    lumen &= (c.v > 0.8) & (c.within(0, 0, a - head.skull - 0.8, b - head.skull - 0.8) < 1)
    c.paint(lumen, "csf")
    # The plexus dangles on the dependent wall of a wide ventricle.
    plexus = c.within(at + 0.12 * a, middle + radius - 2.4, 0.16 * a, 1.8, -0.1) < 1
    c.paint(plexus & lumen, "choroid")
    c.masks["lateral-ventricle"] = lumen


def _paint_cyst(c: Canvas, a: float, b: float, slope: float, diameter: float) -> None:
    """A round or long fluid space in the choroid plexus, inside the ventricle; `diameter`: its longest."""
    start, end = 0.34 * a, -0.66 * a
    t = 0.66
    u, v = start + (end - start) * t, b * (0.24 + slope * t + 0.10 * t**2)
    angle = -np.arctan((slope + 0.2 * t) * b / (start - end))
    across = min(0.75 * diameter / 2, 2.8)
    cyst = c.within(u, v, diameter / 2, across, angle) < 1
    rim = (c.within(u, v, diameter / 2 + 0.7, across + 0.7, angle) < 1) & c.masks["lateral-ventricle"]
    c.paint(rim, "choroid")
    c.paint(cyst, "csf")
    c.masks["choroid-plexus-cyst"] = cyst
    c.masks["lateral-ventricle"] |= cyst


def _paint_thalami(c: Canvas, u: float, length: float, width: float) -> None:
    """Two dark ovals beside the third ventricle, nearer to each other in front: a heart or diamond."""
    thalami = np.zeros(c.u.shape, bool)
    for side in (-1, 1):
        thalami |= c.within(u, side * (0.5 * width + 0.6), length / 2, width / 2, -side * 0.3) < 1
    thalami &= np.abs(c.v) > 0.8
    edge = np.zeros(c.u.shape, bool)
    for side in (-1, 1):
        edge |= c.within(u, side * (0.5 * width + 0.6), length / 2 + 0.5, width / 2 + 0.5, -side * 0.3) < 1
    c.paint(edge, "brain-bright")
    c.paint(thalami, "thalamus")
    c.paint((np.abs(c.v) < 0.5) & (np.abs(c.u - u) < 0.3 * length), "csf")  # third ventricle: a slit
    c.masks["thalami"] = thalami


def plan_transthalamic(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Cavum in front, thalami and third ventricle in the middle, hippocampal gyri behind, a frontal horn."""
    head = _draw_head(weeks, rng, change)
    a, b = head.a, head.b
    box = biometry.csp_width_mm(weeks) * rng.uniform(0.9, 1.15)
    front = rng.uniform(0.40, 0.46) * a
    length, width = rng.uniform(0.46, 0.54) * a, rng.uniform(0.26, 0.31) * b
    horn = rng.uniform(3.2, 4.4)
    wide = severity_of(change, "ventriculomegaly")

    def paint(c: Canvas) -> None:
        inner = _paint_head(c, head)
        arc = c.within(0.05 * a, 0.1 * b, 0.55 * a, 0.66 * b)
        c.paint((np.abs(arc - 1) < 0.02) & (c.v > 0.5 * b) & (inner < 0.9), "wall")
        _paint_thalami(c, -0.02 * a, length, width)
        for side in (-1, 1):  # hippocampal gyri: bright arcs behind the thalami
            ring = c.within(-0.36 * a, side * 0.24 * b, 0.13 * a, 0.12 * b)
            c.paint((np.abs(ring - 1) < 0.09) & (c.u < -0.32 * a), "wall")
        thick = (horn if wide is None else wide) / 2
        v = max(0.30 * b, thick + 0.5 * box + 1.2)
        c.masks["lateral-ventricle"] = (c.within(0.47 * a, v, max(0.17 * a, 1.5 * thick), thick, 0.35) < 1) & (
            inner < 0.9
        )
        c.paint(c.within(0.47 * a, v, max(0.17 * a, 1.5 * thick) + 0.7, thick + 0.7, 0.35) < 1, "brain-bright")
        c.paint(c.masks["lateral-ventricle"], "csf")
        _paint_middle(c, front, box, change)
        c.masks["lateral-ventricle"] &= ~c.masks.get("csp", np.zeros(c.u.shape, bool))

    return Plan(paint, (a + head.scalp, b + head.scalp), head.sizes() | {"csp": box})


def plan_transcerebellar(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Cavum, thalami, and behind them the dumbbell of the cerebellum with the cisterna magna at the occiput."""
    head = _draw_head(weeks, rng, change)
    a, b = head.a, head.b
    box = biometry.csp_width_mm(weeks) * rng.uniform(0.9, 1.15)
    front = rng.uniform(0.40, 0.47) * a
    across = biometry.cerebellar_diameter_mm(weeks) * float(np.clip(rng.normal(1, 0.05), 0.9, 1.1))
    normal = biometry.CISTERNA_MAGNA_MM + biometry.CISTERNA_MAGNA_SD_MM * float(np.clip(rng.normal(), -2, 2))
    asked = severity_of(change, "enlarged-cisterna-magna")
    depth = normal if asked is None else asked
    length, width = rng.uniform(0.36, 0.42) * a, rng.uniform(0.26, 0.31) * b
    back = -(a - head.skull) * 0.985 + depth  # the vermis' posterior edge
    half = 0.22 * across
    if back + 2 * half > -0.05 * a:
        raise LayoutError(f"the phantom's head of {2 * a:.0f} mm has no room for a cisterna magna of {depth:g} mm")

    def paint(c: Canvas) -> None:
        inner = _paint_head(c, head)
        _paint_thalami(c, 0.14 * a, length, width)
        _paint_middle(c, front, box, change)
        _paint_posterior_fossa(c, inner, (back, half, across))

    sizes = head.sizes() | {"csp": box, "cerebellum": across, "cisterna-magna": depth}
    return Plan(paint, (a + head.scalp, b + head.scalp), sizes)


def _paint_posterior_fossa(c: Canvas, inner: Floats, fossa: tuple[float, float, float]) -> None:
    """Paint tentorium, cisterna and cerebellum. fossa: vermis' back (u), lobes' half depth, diameter."""
    back, half, across = fossa
    u = back + half
    behind = (c.u < u) & (np.abs(c.v) < 0.52 * across) & (inner < 0.985)
    for side in (-1, 1):  # the tentorium: a bright line around each hemisphere's front
        ring = c.within(u, side * 0.25 * across, half + 1.6, 0.30 * across + 1.2)
        c.paint((np.abs(ring - 1) < 0.09) & (c.u > u - 0.2 * half) & (side * c.v > 0), "wall")
    lobes = np.zeros(c.u.shape, bool)
    for side in (-1, 1):
        lobes |= c.within(u + 0.1 * half, side * 0.265 * across, half, 0.235 * across, side * 0.18) < 1
    vermis = c.within(u, 0, half, 0.13 * across) < 1
    cisterna = behind & (c.u < back + 0.75 * half) & ~lobes & ~vermis & (c.u < back + 0.5 * half + 0.1 * np.abs(c.v))
    c.paint(behind & (c.u < back + half) & ~cisterna, "brain")
    c.paint(cisterna, "csf")
    c.paint(cisterna & (np.abs(np.abs(c.v) - 0.12 * across) < 0.18), "brain")  # septa: fine lines
    c.paint(lobes, "cerebellum-edge")
    inside = np.zeros(c.u.shape, bool)
    for side in (-1, 1):
        inside |= c.within(u + 0.1 * half, side * 0.265 * across, half - 0.4, 0.235 * across - 0.4, side * 0.18) < 1
    c.paint(inside, "cerebellum")
    folia = np.abs(np.sin((c.v + 0.35 * c.u) * 2.2)) < 0.25
    c.paint(inside & folia, "cerebellum-folia")
    c.paint(vermis, "cerebellum-edge")
    c.masks["cerebellum"] = lobes | vermis
    c.masks["cisterna-magna"] = cisterna


BRAIN_PLANS: dict[str, Callable[..., Plan]] = {
    "transventricular": plan_transventricular,
    "transthalamic": plan_transthalamic,
    "transcerebellar": plan_transcerebellar,
}
