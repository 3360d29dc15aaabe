"""Anomalies: edits that turn a normal layout into an abnormal one, with a severity in clinical units.

The generator never sees an abnormal image in training: the edit is made in the layout, and the edited object is
marked, so that no adaptation heals it away. What an anomaly takes away is asked as absent. The edits stand in
`edit_head`, `edit_brain`, `edit_trunk`, `edit_heart` and `edit_limbs`, the table of anomalies in `catalogue`.
"""

from collections.abc import Sequence

import numpy as np

from fetalflex.anatomy.catalogue import ANOMALIES as ANOMALIES
from fetalflex.anatomy.catalogue import Anomaly as Anomaly
from fetalflex.anatomy.edit_trunk import urinary_tract_grade as urinary_tract_grade
from fetalflex.anatomy.editing import Setting, require, setting_of
from fetalflex.anatomy.editing import millimetres_per_unit as millimetres_per_unit
from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.measure import atrial_width as atrial_width
from fetalflex.anatomy.severities import together_fault
from fetalflex.errors import AnomalyError


def find_anomaly(name: str) -> Anomaly:
    """Return the anomaly of that name. Raises: AnomalyError if there is none."""
    if name not in ANOMALIES:
        raise AnomalyError(f"anomaly {name!r} is unknown; expected one of {', '.join(sorted(ANOMALIES))}")
    return ANOMALIES[name]


def apply_anomaly(layout: Layout, name: str, severity: float, rng: np.random.Generator) -> Layout:
    """Return the layout with an anomaly of that severity (in the anomaly's unit); all other objects are unchanged.

    Raises: AnomalyError for an unknown anomaly, another plane, a severity out of range, a missing structure, a
    structure that is as abnormal already, or no room for it.
    """
    anomaly = find_anomaly(name)
    check_anomaly(layout, anomaly, severity)
    return anomaly.edit(layout, severity, setting_of(layout), rng)


def apply_anomalies(layout: Layout, asked: Sequence[tuple[str, float]], rng: np.random.Generator) -> Layout:
    """Return the layout with several anomalies, each (name, severity); their order does not matter.

    Scale and age are taken from the layout as it was; what changes the whole head comes first, so that what lies in
    it gets the size that was asked. Raises: AnomalyError as `apply_anomaly`, and where two cannot be together.
    """
    found = [(find_anomaly(name), severity) for name, severity in asked]
    for i, (one, _) in enumerate(found):
        for other, _ in found[i + 1 :]:
            fault = together_fault(one.name, other.name)
            if fault is not None:
                raise AnomalyError(f"{one.name} and {other.name} cannot be together: {fault}; ask for one of them")
    for anomaly, severity in found:
        check_anomaly(layout, anomaly, severity)
    setting, order = setting_of(layout), list(ANOMALIES)
    seeds = {a.name: int(s) for a, s in zip(ANOMALIES.values(), rng.integers(0, 2**63, len(ANOMALIES)), strict=True)}
    for anomaly, severity in sorted(found, key=lambda pair: order.index(pair[0].name)):
        layout = anomaly.edit(layout, severity, setting, np.random.default_rng(seeds[anomaly.name]))
    return layout


def measure_anomaly(layout: Layout, name: str, setting: Setting | None = None) -> float:
    """Return how severe a layout's anomaly is, in the anomaly's unit.

    `setting`: scale and age of the normal layout, where the layout cannot tell its own: an abnormal head does not.
    Raises: AnomalyError for an unknown anomaly or a missing structure.
    """
    return find_anomaly(name).measure(layout, setting or setting_of(layout))


def check_anomaly(layout: Layout, anomaly: Anomaly, severity: float) -> None:
    """Raises: AnomalyError where the severity is out of range, or plane or structures are not the anomaly's."""
    check_possible(anomaly, layout.plane, severity)
    require(layout, anomaly.name, anomaly.needs)


def check_possible(anomaly: Anomaly, plane: str, severity: float) -> None:
    """Raises: AnomalyError where no layout of that plane could show the anomaly at that severity."""
    low, high = anomaly.severity
    if not low <= severity <= high:
        wanted = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        raise AnomalyError(f"{anomaly.name}: severity {severity:g} {anomaly.unit}; expected {wanted}")
    if plane not in anomaly.planes:
        raise AnomalyError(f"{anomaly.name}: cannot be shown on plane {plane!r}; expected {', '.join(anomaly.planes)}")


def ventriculomegaly_grade(width_mm: float) -> str:
    """Return normal (< 10 mm), mild (10 to 12), moderate (above 12, to 15) or severe (above 15).

    Source: SMFM Consult Series 45, Am J Obstet Gynecol 2018;219:B2-B9; ISUOG guidelines on the fetal CNS, 2020/21.
    """
    return (
        "normal" if width_mm < 10 else "mild" if width_mm <= 12 else "moderate" if width_mm <= 15 else "severe"
    )  # fmt: skip
