"""Planes and structures, each with its code. The order is append-only: it numbers network channels.

Codes: SNOMED CT where pydicom's copy of DICOM PS3.16 lists one, else the private scheme 99FETALFLEX.
Source: ISUOG Practice Guidelines (performance of the routine mid-trimester fetal ultrasound scan, 2022)
for which structures define a plane.
"""

from dataclasses import dataclass

from fetalflex.errors import AnnotationError, LayoutError

PRIVATE_SCHEME = "99FETALFLEX"


@dataclass(frozen=True)
class Structure:
    """An anatomical structure. `echogenicity`: expected grey level, 0 (fluid) to 1 (bone).

    `seen_normally` is false for what only an anomaly makes, or makes visible: no normal image shows it. `wall`: how far
    the bright wall that its outline lies on reaches outward and inward, as fractions of its diameter.
    """

    name: str
    code: str
    scheme: str
    meaning: str
    echogenicity: float
    seen_normally: bool = True
    wall: tuple[float, float] = (0.0, 0.0)

    @property
    def is_fluid(self) -> bool:
        """Whether it is darker than all tissue around it."""
        return self.echogenicity < 0.3


@dataclass(frozen=True)
class Plane:
    """A standard plane and the structures that may be asked for on it."""

    name: str
    meaning: str
    structures: tuple[str, ...]


# The skull's echo around experts' outlines on two public sets: docs/results.md, "A ghost of the old skull".
_SKULL = (0.05, 0.08)
STRUCTURES: tuple[Structure, ...] = (
    Structure("head", "69536005", "SCT", "Head", 0.5, wall=_SKULL),
    Structure("csp", "74968005", "SCT", "Cavum of septum pellucidum", 0.1),
    Structure("lateral-ventricle", "66720007", "SCT", "Lateral Ventricle", 0.1),
    Structure("abdomen", "818981001", "SCT", "Abdomen", 0.5),
    Structure("stomach", "69695003", "SCT", "Stomach", 0.05),
    Structure("umbilical-vein", "284639000", "SCT", "Umbilical vein", 0.1),
    Structure("spine", "421060004", "SCT", "Spine", 0.9),
    Structure("thorax", "816094009", "SCT", "Thorax", 0.5),
    Structure("heart", "80891009", "SCT", "Heart", 0.4),
    Structure("left-ventricle", "87878005", "SCT", "Left ventricle", 0.05),
    Structure("right-ventricle", "53085002", "SCT", "Right ventricle", 0.05),
    Structure("left-atrium", "82471001", "SCT", "Left atrium", 0.05),
    Structure("right-atrium", "73829009", "SCT", "Right atrium", 0.05),
    Structure("femur", "71341001", "SCT", "Femur", 1.0),
    Structure("cerebellum", "113305005", "SCT", "Cerebellum", 0.4),
    Structure("thalami", "42695009", "SCT", "Thalamus", 0.3),
    Structure("cisterna-magna", "54165005", "SCT", "Cisterna Magna", 0.1),
    Structure("kidney", "64033007", "SCT", "Kidney", 0.35),
    Structure("renal-pelvis", "25990002", "SCT", "Renal pelvis", 0.05),
    Structure("nose", "45206002", "SCT", "Nose", 0.5),
    Structure("nasal-bone", "74386004", "SCT", "Nasal bone", 0.9),
    Structure("upper-lip", "upper-lip", PRIVATE_SCHEME, "Upper lip", 0.6),
    Structure("lower-lip", "lower-lip", PRIVATE_SCHEME, "Lower lip", 0.6),
    Structure("mandible", "91609006", "SCT", "Mandible", 0.9),
    Structure("choroid-plexus-cyst", "plexus-cyst", PRIVATE_SCHEME, "Cyst of choroid plexus", 0.05, False),
    Structure("septal-defect", "septal-defect", PRIVATE_SCHEME, "Defect of a cardiac septum", 0.05, False),
    Structure("omphalocele", "omphalocele", PRIVATE_SCHEME, "Sac of an omphalocele", 0.5, False),
    Structure("duodenum", "38848004", "SCT", "Duodenum", 0.05, False),
)

_BRAIN = ("head", "csp", "lateral-ventricle")
_CYST = "choroid-plexus-cyst"
PLANES: tuple[Plane, ...] = (
    Plane("unknown", "Plane not stated", tuple(s.name for s in STRUCTURES)),
    Plane("transventricular", "Trans-ventricular plane of the fetal brain", (*_BRAIN, _CYST)),
    Plane("transthalamic", "Trans-thalamic plane of the fetal brain", (*_BRAIN, "thalami", _CYST)),
    Plane(
        "transcerebellar",
        "Trans-cerebellar plane of the fetal brain",
        ("head", "csp", "cerebellum", "thalami", "cisterna-magna"),
    ),
    Plane("brain", "Fetal brain, plane not stated", (*_BRAIN, "cerebellum", "thalami", "cisterna-magna", _CYST)),
    Plane(
        "abdomen",
        "Transverse abdomen at the stomach",
        ("abdomen", "stomach", "umbilical-vein", "spine", "omphalocele", "duodenum"),
    ),
    Plane(
        "four-chamber",
        "Four-chamber view of the fetal heart",
        (
            "thorax",
            "heart",
            "left-ventricle",
            "right-ventricle",
            "left-atrium",
            "right-atrium",
            "spine",
            "septal-defect",
        ),
    ),
    Plane("femur", "Femur, longitudinal", ("femur",)),
    Plane("thorax", "Fetal thorax, plane not stated", ("thorax", "heart", "spine")),
    Plane(
        "face",
        "Face, midsagittal profile",
        ("head", "nose", "nasal-bone", "upper-lip", "lower-lip", "mandible"),
    ),
    Plane("face-lips", "Face, coronal view of nose and lips", ("nose", "upper-lip", "lower-lip", "mandible")),
    Plane("kidneys", "Transverse abdomen at the kidneys", ("abdomen", "kidney", "renal-pelvis", "spine")),
)

STRUCTURE_NAMES: tuple[str, ...] = tuple(s.name for s in STRUCTURES)
PLANE_NAMES: tuple[str, ...] = tuple(p.name for p in PLANES)
_STRUCTURE_INDEX = {s.name: i for i, s in enumerate(STRUCTURES)}
_PLANE_INDEX = {p.name: i for i, p in enumerate(PLANES)}


def structure(name: str) -> Structure:
    """Return the structure of that name. Raises: AnnotationError if there is none."""
    return STRUCTURES[structure_index(name)]


def structure_index(name: str) -> int:
    """Return the channel of a structure. Raises: AnnotationError if there is none of that name."""
    if name not in _STRUCTURE_INDEX:
        raise AnnotationError(f"structure {name!r} is unknown; expected one of {', '.join(STRUCTURE_NAMES)}")
    return _STRUCTURE_INDEX[name]


def structure_by_code(scheme: str, code: str) -> Structure | None:
    """Return the structure with that code, or None."""
    return next((s for s in STRUCTURES if (s.scheme, s.code) == (scheme, code)), None)


def plane(name: str) -> Plane:
    """Return the plane of that name. Raises: LayoutError if there is none."""
    return PLANES[plane_index(name)]


def plane_index(name: str) -> int:
    """Return a plane's number; 0 is `unknown`. Raises: LayoutError if there is none of that name."""
    if name not in _PLANE_INDEX:
        raise LayoutError(f"plane {name!r} is unknown; expected one of {', '.join(PLANE_NAMES)}")
    return _PLANE_INDEX[name]
