"""Clinical sizes of what the judge sees against those that were asked: calipers and ellipses on both masks alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fetalflex.anatomy.layout import Mask
from fetalflex.anatomy.measure import atrial_width, circumference, ellipse_diameters, largest_diameter
from fetalflex.anatomy.ontology import structure_index
from fetalflex.errors import AnomalyError
from fetalflex.masks.segmenter import largest_part
from fetalflex.quality.bootstrap import Floats
from fetalflex.quality.control.judgement import Judgement


@dataclass(frozen=True)
class Size:
    """A size: the structures that it takes, its unit, and how it is measured on their masks over an extent."""

    structures: tuple[str, ...]
    unit: str
    of: Callable[[Mapping[str, Mask], float], float]


SIZES: dict[str, Size] = {
    "hc": Size(("head",), "mm", lambda m, extent: circumference(m["head"], extent)),
    "bpd": Size(("head",), "mm", lambda m, extent: ellipse_diameters(m["head"], extent)[1]),
    "ac": Size(("abdomen",), "mm", lambda m, extent: circumference(m["abdomen"], extent)),
    "atrial_width": Size(("lateral-ventricle",), "mm", lambda m, extent: atrial_width(m["lateral-ventricle"], extent)),
    "femur_length": Size(("femur",), "mm", lambda m, extent: largest_diameter(m["femur"], extent)),
    "cardiothoracic_ratio": Size(
        ("heart", "thorax"),
        "",
        lambda m, extent: circumference(m["heart"], extent) / circumference(m["thorax"], extent),
    ),
}


def size_errors(judged: Judgement) -> dict[str, Floats]:
    """Return for each size the measured less the asked one: float64 [N], mm (a ratio has no unit).

    NaN where its structures were not all asked as shapes, are not seen, or the image has no spacing (but for a ratio).
    """
    return {name: np.array([_error(judged, n, size) for n in range(len(judged))]) for name, size in SIZES.items()}


def _error(judged: Judgement, n: int, size: Size) -> float:
    numbers = {name: structure_index(name) for name in size.structures}
    if not all(judged.wanted[n, k] for k in numbers.values()):
        return float("nan")
    mm = float(judged.mm[n]) if size.unit == "mm" else 1.0
    extent = mm * judged.seen.shape[-1]
    if not np.isfinite(extent):
        return float("nan")
    try:
        seen, asked = (
            size.of({name: largest_part(masks[n, k]) for name, k in numbers.items()}, extent)
            for masks in (judged.seen, judged.asked)
        )
    except AnomalyError:  # fewer than three pixels: nothing that a caliper could take
        return float("nan")
    return seen - asked if seen > 0 else float("nan")
