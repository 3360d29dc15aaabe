"""Which anomalies there are: planes, unit and range of the severity. Plain data, so that parameters can be checked.

How each is made and measured, its definition and its source: `anatomy.catalogue`.
The order is the order in which several are made: the whole head first, then what lies in it.
"""

from dataclasses import dataclass

BRAIN = ("transventricular", "transthalamic", "transcerebellar", "brain")
_HEAD_SIZE, _STOMACH, _SEPTUM = ("the head's size",), ("the stomach",), ("the ventricular septum",)


@dataclass(frozen=True)
class Kind:
    """An anomaly that can be asked for. `severity`: the range (low, high) in `unit`.

    `structure`: what it is about. `excludes`: subjects on which only one anomaly at a time can decide. `below`: it is
    the worse the smaller its measure is, so `high` is the limit to normal; else `low` is.
    """

    name: str
    planes: tuple[str, ...]
    structure: str
    unit: str
    severity: tuple[float, float]
    excludes: tuple[str, ...] = ()
    below: bool = False

    @property
    def limit(self) -> float:
        """The measure at which the anomaly begins."""
        return self.severity[1 if self.below else 0]

    def is_reached(self, measured: float) -> bool:
        """Whether a measure (NaN: not to be measured) is beyond the limit."""
        return measured <= self.limit if self.below else measured >= self.limit


_VENTRICLE = ("transventricular", "transthalamic", "brain")
_KINDS = (
    Kind("microcephaly", BRAIN, "head", "SD", (-7.0, -3.0), _HEAD_SIZE, below=True),
    Kind("macrocephaly", BRAIN, "head", "SD", (2.0, 6.0), _HEAD_SIZE),
    Kind("dolichocephaly", BRAIN, "head", "%", (55.0, 74.0), ("the head's shape",), below=True),
    Kind("ventriculomegaly", _VENTRICLE, "lateral-ventricle", "mm", (10.0, 25.0)),
    Kind("absent-csp", BRAIN, "csp", "present", (1.0, 1.0)),
    Kind("enlarged-cisterna-magna", ("transcerebellar", "brain"), "cisterna-magna", "mm", (10.0, 20.0)),
    Kind("choroid-plexus-cyst", _VENTRICLE, "choroid-plexus-cyst", "mm", (3.0, 15.0)),
    Kind("absent-stomach", ("abdomen",), "stomach", "present", (1.0, 1.0), _STOMACH),
    Kind("double-bubble", ("abdomen",), "duodenum", "mm", (6.0, 30.0), _STOMACH),
    Kind("omphalocele", ("abdomen",), "omphalocele", "mm", (10.0, 80.0)),
    Kind("hydronephrosis", ("kidneys",), "renal-pelvis", "mm", (4.0, 30.0)),
    Kind("cardiomegaly", ("four-chamber", "thorax"), "heart", "ratio", (0.56, 0.80)),
    Kind("single-ventricle", ("four-chamber",), "left-ventricle", "present", (1.0, 1.0), _SEPTUM),
    Kind("ventricular-septal-defect", ("four-chamber",), "septal-defect", "mm", (1.0, 12.0), _SEPTUM),
    Kind("atrioventricular-septal-defect", ("four-chamber",), "septal-defect", "mm", (2.0, 18.0), _SEPTUM),
    Kind("short-femur", ("femur",), "femur", "SD", (-10.0, -2.0), below=True),
    Kind("bowed-femur", ("femur",), "femur", "degrees", (15.0, 90.0)),
    Kind("cleft-lip", ("face-lips",), "upper-lip", "mm", (1.0, 10.0)),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}


def together_fault(one: str, other: str) -> str | None:
    """Return why two known anomalies cannot be made at once, or None where they can."""
    first, second = KINDS[one], KINDS[other]
    if one == other:
        return "it is asked twice"
    shared = sorted(set(first.excludes) & set(second.excludes))
    if shared:
        return f"both decide on {shared[0]}"
    if not set(first.planes) & set(second.planes):
        return "no plane can show both"
    return None
