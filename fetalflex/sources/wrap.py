"""Public sets wrapped in DICOM, as a hospital would send them: from there on they are like any center.

Images become Ultrasound Image objects, outlines and colour masks DICOM SEG, boxes structured reports.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fetalflex.dicom.write import UltrasoundImage, derive_uid, write_boxes, write_segmentation, write_ultrasound
from fetalflex.errors import SourceError, UsageError
from fetalflex.sources import public
from fetalflex.sources.public import Picture

COLOUR_NOISE = 24  # grey levels between channels that lossy compression makes in a grey image
_CC_BY = "CC BY 4.0"
_BRAIN = {
    "trans-ventricular": "transventricular", "trans-thalamic": "transthalamic", "trans-cerebellum": "transcerebellar",
}  # fmt: skip
_PLANES = {"brain": "brain", "abdomen": "abdomen", "femur": "femur", "thorax": "thorax"}


@dataclass(frozen=True)
class PublicSet:
    """A set: its reader, what must lie in its folder, and what its center's profile says."""

    read: Callable[[Path], Iterator[Picture]]
    expected: tuple[str, ...]
    title: str
    licence: str
    planes: Mapping[str, str]
    role: str = "normal"
    findings: Mapping[str, str] = field(default_factory=dict)


# The words of the set's own table, some misspelt there, for one name each.
_FINDINGS = {
    "mild-ventriculomegaly": "mild-ventriculomegaly", "moderate-ventriculomegaly": "moderate-ventriculomegaly",
    "severe-ventriculomegaly": "severe-ventriculomegaly", "arachnoid-cyst": "arachnoid-cyst",
    "cerebellah-hypoplasia": "cerebellar-hypoplasia", "colphocephaly": "colpocephaly", "encephalocele": "encephalocele",
    "holoprosencephaly": "holoprosencephaly", "hydracen": "hydranencephaly", "intracranial-hemorr": "haemorrhage",
    "m-magna": "enlarged-cisterna-magna", "polencephaly": "porencephaly", "chiari": "chiari",
}  # fmt: skip

SETS: Mapping[str, PublicSet] = {
    "hc18": PublicSet(
        public.read_hc18, ("training_set", "training_set_pixel_size_and_HC.csv"),
        "HC18, fetal heads, Nijmegen", f"{_CC_BY} (HC18 grand challenge)", {"head": "brain"},
    ),
    "barcelona-transventricular": PublicSet(
        public.read_barcelona_transventricular, ("images", "masks", "boxes_voc", "labelmap.txt"),
        "Trans-ventricular brain planes, Barcelona",
        f"research and educational use; images from FETAL_PLANES_DB ({_CC_BY})", _BRAIN | _PLANES,
    ),
    "barcelona-planes": PublicSet(
        public.read_barcelona_planes, ("images", "labels.csv", "landmarks.csv"), "Common planes, Barcelona",
        f"{_CC_BY}; spacing from the multi-centre fetal biometry benchmark (CC BY-NC-SA 4.0)", _BRAIN | _PLANES,
    ),
    "african-planes": PublicSet(
        public.read_african_planes, ("images", "labels.csv"), "Common planes, Africa", _CC_BY, _PLANES,
    ),
    "abnormal-brain": PublicSet(
        public.read_abnormal_brain, ("images", "labels.csv"), "Brains with named anomalies", _CC_BY, _PLANES,
        "test_only", _FINDINGS,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """One image is written: into which center, the how-manieth of how many."""

    center: str
    number: int
    total: int


def import_set(name: str, source: Path, out: Path, center: str, *, country: str | None = None) -> Iterator[Progress]:
    """Write a public set below `out/<center>/`, one Progress per image.

    african-planes becomes one center per country, `<center>-<country>`; with `country` only that one, as `center`.
    The same set gives the same bytes: UIDs come from names, no clock is read.
    Raises: UsageError for an unknown set or country; SourceError where `source` is not that set.
    """
    pictures = _chosen(_pictures(name, source), country)
    groups = {p.group for p in pictures}
    for number, picture in enumerate(pictures, 1):
        target = f"{center}-{picture.group}" if len(groups) > 1 else center
        _write(out / target, picture, (name, target))
        yield Progress(target, number, len(pictures))


def draft_center(name: str, center: str) -> dict[str, Any]:
    """Return the drafted profile of an imported center, for `params.Center`. Raises: UsageError for an unknown set."""
    item = _set(name)
    place = center.rsplit("-", 1)[-1].capitalize() if name == "african-planes" and "-" in center else ""
    return {
        "title": f"{item.title} ({place})" if place else item.title,
        "role": item.role,
        "licence": item.licence,
        "planes": dict(item.planes),
    } | ({"findings": dict(item.findings)} if item.findings else {})


def _set(name: str) -> PublicSet:
    if name not in SETS:
        raise UsageError(f"set {name!r} is unknown; expected one of {', '.join(SETS)}")
    return SETS[name]


def _pictures(name: str, source: Path) -> list[Picture]:
    item = _set(name)
    missing = [part for part in item.expected if not (source / part).exists()]
    if missing:
        raise SourceError(
            f"{source}: is not the set {name}: {', '.join(missing)} missing; expected a folder that holds "
            f"{', '.join(item.expected)}"
        )
    pictures = list(item.read(source))
    if not pictures:
        raise SourceError(f"{source}: holds the tables of the set {name}, but none of their images; unpack it again")
    return pictures


def _chosen(pictures: list[Picture], country: str | None) -> list[Picture]:
    if country is None:
        return pictures
    groups = sorted({p.group for p in pictures if p.group})
    if country.lower() not in groups:
        raise UsageError(f"country {country!r} is not in this set; expected {', '.join(groups) or 'no country'}")
    return [p for p in pictures if p.group == country.lower()]


def _write(folder: Path, picture: Picture, names: tuple[str, str]) -> None:
    pixels = _load(picture.path)
    stem = picture.path.stem
    image = UltrasoundImage(
        pixels=pixels,
        sop_uid=derive_uid(*names, stem, "image"),
        study_uid=derive_uid(*names, picture.patient, "study"),
        series_uid=derive_uid(*names, stem, "series"),
        patient_id=picture.patient,
        manufacturer=picture.manufacturer,
        model=picture.model,
        study_description=picture.study,
        series_description=picture.series,
        spacing_mm=picture.spacing_mm,
        lossy_note=picture.lossy,
    )
    target = folder / picture.patient
    target.mkdir(parents=True, exist_ok=True)
    written = write_ultrasound(target / f"{stem}.dcm", image)
    marks = picture.marks((pixels.shape[0], pixels.shape[1]))
    if marks.masks:
        write_segmentation(target / f"{stem}.seg.dcm", written, marks.masks, f"{names} {stem}")
    if marks.boxes:
        write_boxes(target / f"{stem}.boxes.dcm", written, marks.boxes, f"{names} {stem}")


def _load(path: Path) -> npt.NDArray[np.uint8]:
    """Return uint8 [H, W], or [H, W, 3] where the picture has colours beyond the noise of compression."""
    try:
        with Image.open(path) as picture:
            if picture.mode in ("L", "1", "P", "LA"):
                return np.asarray(picture.convert("L"))
            rgb = np.asarray(picture.convert("RGB"))
            grey = np.asarray(picture.convert("L"))
    except (OSError, Image.DecompressionBombError) as error:
        raise SourceError(
            f"{path.name}: is no readable picture ({type(error).__name__}); unpack the set again"
        ) from error
    spread = int((rgb.max(axis=-1).astype(np.int16) - rgb.min(axis=-1)).max())
    return rgb if spread > COLOUR_NOISE else grey
