"""Tools of the anomalies: what the age and the scale are taken for, affine moves of objects, searches for a size."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.anatomy import biometry
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, mask_box, signed_distance
from fetalflex.anatomy.measure import circumference, ellipse_diameters, region_of
from fetalflex.anatomy.severities import BRAIN
from fetalflex.anatomy.shapes import inscribed
from fetalflex.errors import AnomalyError, LayoutError

Floats = npt.NDArray[np.float64]
ASSUMED_WEEKS = 22.0  # the usual age of the anatomy scan, where a layout does not state its own


@dataclass(frozen=True)
class Setting:
    """What severities are measured with, taken from the normal layout before any edit: mm per unit, and the age."""

    millimetres: float
    weeks: float


def setting_of(layout: Layout) -> Setting:
    """Return a layout's scale and age: stated, else derived from its own size, else 22 weeks."""
    return Setting(millimetres_per_unit(layout), _age(layout))


def millimetres_per_unit(layout: Layout) -> float:
    """Return mm per layout unit: 1 in mm layouts; else an estimate from what the layout shows.

    The head's short diameter is taken for the mean biparietal diameter at the layout's age (22 weeks where it states
    none), the abdomen and the thorax for their mean circumferences, the femur for its mean length.
    Raises: AnomalyError where it shows none of them.
    """
    if layout.unit == "mm":
        return 1.0
    weeks = ASSUMED_WEEKS if layout.age_weeks is None else layout.age_weeks
    if layout.plane in (*BRAIN, "unknown") and layout.find("head") is not None:
        return biometry.biparietal_diameter_mm(weeks) / short_diameter(layout)
    for name, size in (
        ("abdomen", biometry.abdominal_circumference_mm(weeks)),
        ("thorax", biometry.thoracic_circumference_mm(weeks)),
    ):
        if layout.find(name) is not None:
            return size / circumference(region_of(layout, name), layout.extent)
    if layout.find("femur") is not None:
        return biometry.femur_length_mm(weeks) / ellipse_length(layout)
    raise AnomalyError(
        "the layout has neither spacing nor head, abdomen, thorax or femur; expected one of them to know its size"
    )


def short_diameter(layout: Layout) -> float:
    """Return the head's short diameter: of the fitted ellipse, or the box's short side."""
    head = layout.find("head")
    if head is None:
        raise AnomalyError("the layout has no head; expected one to know its size")
    if head.is_box:
        x0, y0, x1, y1 = head.box
        return min(x1 - x0, y1 - y0)
    return ellipse_diameters(region_of(layout, "head"), layout.extent)[1]


def ellipse_length(layout: Layout) -> float:
    """Return the femur's length: a rod's is sqrt(12) standard deviations; a box's is its diagonal."""
    femur = layout.find("femur")
    if femur is None:
        raise AnomalyError("the layout has no femur; expected one to know its size")
    if femur.is_box:
        return float(np.hypot(femur.box[2] - femur.box[0], femur.box[3] - femur.box[1]))
    return ellipse_diameters(region_of(layout, "femur"), layout.extent)[0] / 4 * float(np.sqrt(12))


def _age(layout: Layout) -> float:
    if layout.age_weeks is not None:
        return layout.age_weeks
    return age_of_size(layout) or ASSUMED_WEEKS  # smaller or larger than any age's mean: the usual age is as good


def age_of_size(layout: Layout) -> float | None:
    """Return the age in weeks at which the head's, abdomen's or femur's size is the mean; None where none tells it.

    Only millimetres tell an age: a layout in image units has none.
    """
    if layout.unit != "mm":
        return None
    measures: list[tuple[str, biometry.Measure]] = [("head", "hc"), ("abdomen", "ac"), ("femur", "fl")]
    for name, measure in measures:
        if layout.find(name) is None or (name == "head" and layout.plane not in BRAIN):
            continue
        size = ellipse_length(layout) if name == "femur" else circumference(region_of(layout, name), layout.extent)
        try:
            return biometry.age_from(measure, size)
        except LayoutError:
            continue  # smaller or larger than any age's mean
    return None


def with_age(layout: Layout) -> Layout:
    """Return the layout with its stated age, else with one derived from its size and marked so, else as it is."""
    weeks = None if layout.age_weeks is not None else age_of_size(layout)
    return layout if weeks is None else replace(layout, age_weeks=weeks, age_derived=True)


def require(layout: Layout, name: str, structures: Iterable[str]) -> None:
    """Raises: AnomalyError where the layout lacks one of the structures that the anomaly `name` needs."""
    for structure in structures:
        if layout.find(structure) is None:
            raise AnomalyError(f"{name}: the layout has no {structure!r}; expected one that has it as box or mask")


def moved(item: LayoutObject, extent: float, matrix: Floats, centre: Floats, shift: Floats) -> LayoutObject:
    """Return an object under p -> matrix (p - centre) + centre + shift (layout units), marked as edited.

    Boxes move as the ellipses that fill them. Raises: AnomalyError where it would leave the frame.
    """
    offset = centre - matrix @ centre + shift
    if item.mask is not None:
        mask = move_mask(item.mask, extent, matrix, offset)
        box = mask_box(mask, extent)
        if box is None or (touches_frame(mask) and not touches_frame(item.mask)):
            raise AnomalyError(f"the frame has no room for {item.structure!r} of that size; ask for less")
        return replace(item, mask=mask, box=box, shape=None, edited=True)
    if item.shape is not None:
        shape = item.shape.moved(matrix, offset)
        changed = replace(item, shape=shape, box=shape.bounds(), edited=True)
    else:
        changed = replace(item, box=inscribed(item.box).moved(matrix, offset).bounds(), edited=True)
    if min(changed.box) < -1e-9 * extent or max(changed.box) > extent * (1 + 1e-9):
        raise AnomalyError(f"the frame has no room for {item.structure!r} of that size; ask for less")
    return changed


def move_mask(mask: Mask, extent: float, matrix: Floats, offset: Floats) -> Mask:
    """Return a mask under p -> matrix p + offset: the border's signed distance is moved, so edges stay smooth."""
    size = mask.shape[0]
    inverse = np.linalg.inv(matrix)
    shift = offset * size / extent - 0.5 + matrix @ np.array([0.5, 0.5])  # pixel centres lie at half units
    swapped = inverse[::-1, ::-1]  # ndimage counts (y, x)
    field = ndimage.affine_transform(
        signed_distance(mask), swapped, -(swapped @ shift[::-1]), order=1, mode="constant", cval=-float(size)
    )
    return np.asarray(field > 0)


def touches_frame(mask: Mask) -> bool:
    """Whether a mask reaches the canvas' border."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def with_mask(item: LayoutObject, mask: Mask, extent: float, what: str) -> LayoutObject:
    """Return the object with that mask, edited. Raises: AnomalyError where nothing is left of it."""
    box = mask_box(mask, extent)
    if box is None:
        raise AnomalyError(f"{what}: nothing is left of {item.structure!r}; ask for less")
    return replace(item, mask=mask, box=box, shape=None, edited=True)


def solve(measured: Callable[[float], float], target: float, bounds: tuple[float, float], steps: int = 18) -> float:
    """Return the argument between `bounds` at which a growing measure is nearest to the target (bisection)."""
    low, high = bounds
    best, error = low, float("inf")
    for _ in range(steps):
        middle = (low + high) / 2
        value = measured(middle)
        if abs(value - target) < error:
            best, error = middle, abs(value - target)
        low, high = (middle, high) if value < target else (low, middle)
    return best


def along_axes(axes: Floats, long: float, short: float) -> Floats:
    """Return the matrix that scales by `long` and `short` along two orthonormal columns."""
    return np.asarray(axes @ np.diag([long, short]) @ axes.T)
