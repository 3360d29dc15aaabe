"""Fetal anatomy of the standard planes as shapes in mm, sized by gestational age, normal or with one anomaly.

A plan is painted on any grid of points, so that the label map on the image and the tissue map along the scan lines are
the same anatomy, each exact. Coordinates (u, v) are the fetus' own: the origin is the middle of the part that
the plane shows. Sources: sizes in `anatomy.biometry`; which structures and where: in the module of each part. Shares
without a source are estimates.

Abnormal plans come from the same parameters as normal ones. They are ground truth for measurements of the generator;
the embedded centers never use them, and no training may.
"""

from collections.abc import Callable

from fetalflex.errors import AnomalyError, LayoutError
from fetalflex.phantom.brain import BRAIN_PLANS
from fetalflex.phantom.canvas import Canvas as Canvas
from fetalflex.phantom.canvas import Change, Plan, Rng
from fetalflex.phantom.canvas import semi_axes as semi_axes
from fetalflex.phantom.face import FACE_PLANS
from fetalflex.phantom.femur import plan_femur
from fetalflex.phantom.heart import HEART_PLANS
from fetalflex.phantom.trunk import TRUNK_PLANS

PLANS: dict[str, Callable[..., Plan]] = {
    "transventricular": BRAIN_PLANS["transventricular"],
    "abdomen": TRUNK_PLANS["abdomen"],
    "four-chamber": HEART_PLANS["four-chamber"],
    "femur": plan_femur,
    "transthalamic": BRAIN_PLANS["transthalamic"],
    "transcerebellar": BRAIN_PLANS["transcerebellar"],
    "face": FACE_PLANS["face"],
    "face-lips": FACE_PLANS["face-lips"],
    "kidneys": TRUNK_PLANS["kidneys"],
    "thorax": HEART_PLANS["thorax"],
}
_HEAD = ("microcephaly", "macrocephaly", "dolichocephaly")
SHOWN: dict[str, tuple[str, ...]] = {
    "transventricular": (*_HEAD, "ventriculomegaly", "absent-csp", "choroid-plexus-cyst"),
    "transthalamic": (*_HEAD, "absent-csp"),
    "transcerebellar": (*_HEAD, "absent-csp", "enlarged-cisterna-magna"),
    "abdomen": ("absent-stomach", "double-bubble", "omphalocele"),
    "kidneys": ("hydronephrosis",),
    "four-chamber": (
        "cardiomegaly",
        "ventricular-septal-defect",
        "atrioventricular-septal-defect",
        "single-ventricle",
    ),
    "thorax": ("cardiomegaly",),
    "femur": ("short-femur", "bowed-femur"),
    "face-lips": ("cleft-lip",),
    "face": (),
}


def plan(plane: str, weeks: float, rng: Rng, anomaly: Change = None) -> Plan:
    """Return a plan with natural variation drawn from `rng`; `anomaly`: (name, severity), of `SHOWN`.

    Raises: LayoutError for a plane without a plan, AnomalyError for an anomaly that the plane's plan does not have.
    """
    if plane not in PLANS:
        raise LayoutError(f"the phantom has no plane {plane!r}; expected one of {', '.join(PLANS)}")
    if anomaly is not None and anomaly[0] not in SHOWN[plane]:
        raise AnomalyError(
            f"the phantom's plane {plane!r} cannot show {anomaly[0]!r}; expected {', '.join(SHOWN[plane]) or 'none'}"
        )
    return PLANS[plane](weeks, rng, anomaly)
