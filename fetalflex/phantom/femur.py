"""The femur: a longitudinal section of the thigh."""

import numpy as np

from fetalflex.anatomy import biometry
from fetalflex.phantom.canvas import Canvas, Change, Plan, Rng, draw_size, severity_of


def plan_femur(weeks: float, rng: Rng, change: Change = None) -> Plan:
    """Femur along u in the thigh: a slightly bowed shaft with flared ends; only its ossified part is femur."""
    length = draw_size("fl", weeks, rng)
    short, bent = severity_of(change, "short-femur"), severity_of(change, "bowed-femur")
    if short is not None:
        length = biometry.mean_mm("fl", weeks) + short * biometry.sd_mm("fl", weeks)
    width = 0.055 * length + 1.0
    thigh = 0.25 * length + rng.uniform(2.0, 5.0)
    bow = rng.uniform(-0.03, 0.03) * length
    whole = length
    if bent is not None:  # an arc of this angle: a shorter chord, and a rise of tan(angle / 4) half chords
        angle = np.deg2rad(bent)
        length = float(length * np.sin(angle / 2) / (angle / 2))
        bow = float(np.copysign(length / 2 * np.tan(angle / 4), bow))
        thigh += abs(bow)
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

    return Plan(paint, (reach, thigh), {"fl": whole, "bow": bow})
