"""Edits of the head as a whole: its size and its shape. Everything inside moves with it."""

from dataclasses import replace
from math import pi, sqrt

import numpy as np

from fetalflex.anatomy import biometry
from fetalflex.anatomy.editing import Floats, Setting, along_axes, moved, solve
from fetalflex.anatomy.layout import Layout, Mask
from fetalflex.anatomy.measure import centroid, cephalic_index, circumference, principal_axes, region_of
from fetalflex.errors import AnomalyError


def head_score(layout: Layout, setting: Setting) -> float:
    """Return the head circumference in standard deviations from the mean at the age."""
    size = circumference(region_of(layout, "head"), layout.extent) * setting.millimetres
    return (size - biometry.mean_mm("hc", setting.weeks)) / biometry.sd_mm("hc", setting.weeks)


def resize_head(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Scale the head and all that is in it until its circumference has that score."""
    wanted = biometry.mean_mm("hc", setting.weeks) + severity * biometry.sd_mm("hc", setting.weeks)
    head = region_of(layout, "head")
    found = circumference(head, layout.extent) * setting.millimetres
    if (found - wanted) * severity >= 0 and abs(found - wanted) > 0.01 * wanted:
        raise AnomalyError(
            f"the head's circumference is {found:.0f} mm already; expected it nearer to the mean than {wanted:.0f} mm"
        )
    axes, guess = principal_axes(head), wanted / found

    def measured(factor: float) -> float:
        one = replace(layout, objects=layout.all("head"), absent=frozenset())
        return circumference(region_of(_scaled(one, along_axes(axes, factor, factor), head), "head"), layout.extent)

    factor = solve(measured, wanted / setting.millimetres, (0.96 * guess, 1.04 * guess), 12)
    return _scaled(layout, along_axes(axes, factor, factor), head)


def head_index(layout: Layout, setting: Setting) -> float:  # noqa: ARG001 - a ratio needs no scale
    """Return the cephalic index in per cent."""
    return cephalic_index(region_of(layout, "head"), layout.extent)


def lengthen_head(layout: Layout, severity: float, setting: Setting) -> Layout:  # noqa: ARG001 - as above
    """Lengthen and narrow the head at an equal circumference until its cephalic index is that."""
    head = region_of(layout, "head")
    index, size = cephalic_index(head, layout.extent), circumference(head, layout.extent)
    if index <= severity:
        raise AnomalyError(f"the cephalic index is {index:.0f} % already; expected more than {severity:g} %")
    axes, ratio = principal_axes(head), severity / 100
    long = 2 * size / (pi * (3 * (1 + ratio) - sqrt((3 + ratio) * (1 + 3 * ratio))))
    old = 2 * size / (pi * (3 * (1 + index / 100) - sqrt((3 + index / 100) * (1 + 3 * index / 100))))
    matrix = along_axes(axes, long / old, long * ratio / (old * index / 100))
    return _scaled(layout, matrix, head)


def _scaled(layout: Layout, matrix: Floats, head: Mask) -> Layout:
    centre = centroid(head, layout.extent)
    objects = tuple(moved(o, layout.extent, matrix, centre, np.zeros(2)) for o in layout.objects)
    return replace(layout, objects=objects)
