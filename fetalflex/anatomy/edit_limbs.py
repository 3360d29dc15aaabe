"""Edits of the femur and of the lips."""

import numpy as np
from scipy import ndimage

from fetalflex.anatomy import biometry
from fetalflex.anatomy.editing import Setting, along_axes, ellipse_length, moved, solve, touches_frame, with_mask
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, signed_distance
from fetalflex.anatomy.measure import arc, bow_angle, centroid, gap, midline, principal_axes, region_of
from fetalflex.errors import AnomalyError


def femur_length(layout: Layout) -> float:
    """Return the femur's length in layout units: along its arc; of a box, the diagonal."""
    femur = layout.find("femur")
    if femur is not None and femur.is_box:
        return ellipse_length(layout)
    return arc(region_of(layout, "femur"), layout.extent)[0]


def femur_score(layout: Layout, setting: Setting) -> float:
    """Return the femur's length in standard deviations from the mean at the age."""
    size = femur_length(layout) * setting.millimetres
    return (size - biometry.mean_mm("fl", setting.weeks)) / biometry.sd_mm("fl", setting.weeks)


def shorten_femur(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Shorten the femur along its axis until its length has that score; its width stays."""
    femur = _femur(layout, "short-femur")
    mean, deviation = biometry.mean_mm("fl", setting.weeks), biometry.sd_mm("fl", setting.weeks)
    wanted, before = (mean + severity * deviation) / setting.millimetres, femur_length(layout)
    if wanted <= 0 or before <= wanted:
        raise AnomalyError(
            f"short-femur: the femur is {before * setting.millimetres:.1f} mm long; expected more than the "
            f"{wanted * setting.millimetres:.1f} mm asked for"
        )
    mask = region_of(layout, "femur")
    axes, centre = principal_axes(mask), centroid(mask, layout.extent)
    if femur.is_box:  # a box does not tell its bone's direction: both sides shrink
        return layout.replaced(moved(femur, layout.extent, wanted / before * np.eye(2), centre, np.zeros(2)))

    def shorter(factor: float) -> Layout:
        return layout.replaced(moved(femur, layout.extent, along_axes(axes, factor, 1.0), centre, np.zeros(2)))

    guess = wanted / before
    return shorter(solve(lambda f: femur_length(shorter(f)), wanted, (0.8 * guess, min(1.1 * guess, 1.0)), 12))


def femur_angle(layout: Layout, setting: Setting) -> float:  # noqa: ARG001 - an angle needs no scale
    """Return the angle in degrees between the femur's ends."""
    return bow_angle(region_of(layout, "femur"), layout.extent)


def bend_femur(layout: Layout, severity: float, setting: Setting) -> Layout:  # noqa: ARG001 - as above
    """Bend the femur to an arc of that angle (degrees), of its own length, to the side where it bends already."""
    femur = _femur(layout, "bowed-femur")
    if femur.is_box:
        raise AnomalyError("bowed-femur: a box cannot be bent; expected the femur's mask, ellipse or polyline")
    mask = region_of(layout, "femur")
    now = bow_angle(mask, layout.extent)
    if now >= severity:
        raise AnomalyError(f"bowed-femur: the femur's angle is {now:.0f} degrees already; expected less")
    side = _side(mask)

    def measured(angle: float) -> float:
        return bow_angle(_bent(mask, np.deg2rad(angle) * side), layout.extent)

    angle = solve(measured, severity, (0.0, 1.6 * severity), 12)
    bent = _bent(mask, np.deg2rad(angle) * side)
    if touches_frame(bent) and not touches_frame(mask):
        raise AnomalyError("bowed-femur: the frame has no room for it; ask for less")
    return layout.replaced(with_mask(femur, bent, layout.extent, "bowed-femur"))


def _femur(layout: Layout, name: str) -> LayoutObject:
    femur = layout.find("femur")
    if femur is None:
        raise AnomalyError(f"{name}: the layout lacks its femur")
    return femur


def _side(mask: Mask) -> float:
    along, across = midline(mask)
    bend = float(np.polyfit(along, across, 2)[0]) if len(along) > 3 else 0.0
    return -1.0 if bend < 0 else 1.0


def _bent(mask: Mask, angle: float) -> Mask:
    """Bend a mask about its middle so that its ends turn by `angle` (radians) against each other.

    Each pixel of the result looks up where it came from: its place along the arc, and its distance from the arc.
    """
    if abs(angle) < 1e-6:
        return mask
    axes = principal_axes(mask)
    middle = np.argwhere(mask).mean(axis=0)[::-1]
    along = (np.argwhere(mask)[:, ::-1] - middle) @ axes[:, 0]
    radius = (np.ptp(along) + 1) / angle  # signed: to the side of the bend
    size = mask.shape[0]
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) - middle
    s, t = grid @ axes[:, 0], grid @ axes[:, 1]
    t = t + radius * (1 - np.cos(angle / 2)) / 2  # the arc's middle third stays where the shaft was
    turn = np.arctan2(s * np.sign(radius), (radius - t) * np.sign(radius))
    place, off = turn * radius, radius - np.sign(radius) * np.hypot(s, radius - t)
    source = middle + place[..., None] * axes[:, 0] + off[..., None] * axes[:, 1]
    field = ndimage.map_coordinates(
        signed_distance(mask), source[..., ::-1].transpose(2, 0, 1), order=1, cval=-float(size)
    )
    return np.asarray((field > 0) & (np.abs(turn) < np.pi / 2))


def cleft_width(layout: Layout, setting: Setting) -> float:
    """Return the width in mm of a gap in the upper lip; 0 where it is whole."""
    return gap(region_of(layout, "upper-lip"), layout.extent) * setting.millimetres


def split_lip(layout: Layout, severity: float, setting: Setting) -> Layout:
    """Cut a gap of that width (mm) out of the upper lip, beside its middle and across its axis."""
    lip = layout.find("upper-lip")
    if lip is None:
        raise AnomalyError("cleft-lip: the layout lacks its upper-lip")
    if lip.is_box:
        raise AnomalyError("cleft-lip: a box cannot be split; expected the upper lip's mask, ellipse or polyline")
    mask = region_of(layout, "upper-lip")
    if gap(mask, layout.extent):
        raise AnomalyError("cleft-lip: the upper lip has a gap already; expected a whole one")
    pixel = layout.extent / mask.shape[0]
    axis, middle = principal_axes(mask)[:, 0], np.argwhere(mask).mean(axis=0)[::-1]
    axis = axis * (np.sign(axis[0]) or 1.0)
    size = mask.shape[0]
    along = (np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) - middle) @ axis
    half, wanted = float(np.abs(along[mask]).max()), severity / setting.millimetres
    if wanted / pixel > 0.8 * half:
        raise AnomalyError(f"cleft-lip: the lip is too short for a gap of {severity:g} mm; ask for less")
    place = max(0.3 * half, 0.0)

    def cut(width: float) -> Mask:
        return np.asarray(mask & (np.abs(along - place) >= width / 2))

    width = solve(lambda w: gap(cut(w), layout.extent), wanted, (0.0, 2 * wanted / pixel + 3), 14)
    split = cut(width)
    if not gap(split, layout.extent):
        raise AnomalyError(f"cleft-lip: {severity:g} mm is less than a pixel here; ask for more or a finer mask")
    return layout.replaced(with_mask(lip, split, layout.extent, "cleft-lip"))
