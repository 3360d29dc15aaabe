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


def lengthen_head(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Lengthen and narrow the head at an equal circumference until its cephalic index is that."""
    head = region_of(layout, "head")
    index, size = cephalic_index(head, layout.extent), circumference(head, layout.extent)
    if index <= severity:
        raise AnomalyError(f"the cephalic index is {index:.0f} % already; expected more than {severity:g} %")
    axes = principal_axes(head)

    def matrix(wanted: float) -> Floats:
        long = _semi_axis(size, wanted / 100) / _semi_axis(size, index / 100)
        return along_axes(axes, long, long * wanted / index)

    def measured(wanted: float) -> float:
        return head_index(_scaled(one, matrix(wanted), head), setting)

    # Pixels and outlines that are no ellipses are corrected for by what comes out of the head alone.
    one = replace(layout, objects=layout.all("head"), absent=frozenset())
    return _scaled(layout, matrix(solve(measured, severity, (0.94 * severity, 1.06 * severity), 12)), head)


def _semi_axis(circumference_size: float, ratio: float) -> float:
    """Return the long semi-axis of an ellipse. Source: Ramanujan 1914, first approximation."""
    return circumference_size / (pi * (3 * (1 + ratio) - sqrt((3 + ratio) * (1 + 3 * ratio))))


def _scaled(layout: Layout, matrix: Floats, head: Mask) -> Layout:
    centre = centroid(head, layout.extent)
    objects = tuple(moved(o, layout.extent, matrix, centre, np.zeros(2)) for o in layout.objects)
    return replace(layout, objects=objects)
