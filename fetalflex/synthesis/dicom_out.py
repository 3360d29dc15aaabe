"""Synthetic images as DICOM: Ultrasound Image objects that say what they are, masks as SEG, boxes as reports."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fetalflex.anatomy.layout import Layout, Mask, resize_mask
from fetalflex.anatomy.ontology import plane
from fetalflex.dicom.uids import derive_uid
from fetalflex.dicom.write import SOFTWARE, PixelBox, UltrasoundImage, write_boxes, write_segmentation, write_ultrasound

# Source: DICOM PS3.3 C.7.6.1.1.2 (values 1 and 2 of Image Type), C.8.5.6.1.1 (3 and 4: obstetrical, two-dimensional),
# C.12.1 (Synthetic Data: the content was made by an algorithm and shows no patient).
MARKS = {
    "ImageType": "DERIVED\\SECONDARY\\OBSTETRICAL\\0001",
    "SyntheticData": "YES",
    "Laterality": "",
    "DerivationDescription": "Synthetic: made by a generative model from an anatomical layout; shows no person",
}


_EDITED = "Counterfactual: an image in part made by a generative model; may show a person; not for diagnosis"


@dataclass(frozen=True, eq=False)
class Synthetic:
    """One image to write: uint8 [S, S], what was asked, its number, and what makes its UIDs (seed, model, layout).

    `edited`: it is an image of a person of which a part was made anew; it says so, and not that it shows no person.
    """

    pixels: npt.NDArray[np.uint8]
    layout: Layout
    number: int
    names: tuple[str, ...]
    edited: bool = False


def write_synthetic(folder: Path, name: str, made: Synthetic) -> list[Path]:
    """Write NAME.dcm and, where the layout asks for outlines or boxes, NAME-seg.dcm and NAME-boxes.dcm.

    There is no patient: number and name are empty. UIDs are functions of `made.names`, so equal images are equal files.
    Spacing is stated where the layout is in mm. Returns the files, the image first.
    """
    size, layout = made.pixels.shape[0], made.layout
    spacing = layout.extent / size if layout.unit == "mm" else None
    about = f"Synthetic fetal ultrasound, {plane(layout.plane).meaning}"[:64]
    image = UltrasoundImage(
        made.pixels,
        sop_uid=derive_uid("synthetic", *made.names, made.number),
        study_uid=derive_uid("synthetic study", *made.names[:-1]),
        series_uid=derive_uid("synthetic series", *made.names[:-1]),
        patient_id="",
        manufacturer=SOFTWARE,
        model=SOFTWARE,
        study_description="Synthetic fetal ultrasound",
        series_description=about,
        image_comments=_EDITED if made.edited else "Synthetic image; shows no person; not for diagnosis",
        age_weeks=layout.age_weeks,
        spacing_mm=None if spacing is None else (spacing, spacing),
        burned_in=False,
        number=made.number + 1,
        extra=MARKS | ({"DerivationDescription": _EDITED} if made.edited else {}),
    )
    paths = [folder / f"{name}.dcm"]
    data = write_ultrasound(paths[0], image)
    seed = "/".join((*made.names, str(made.number)))
    masks, boxes = _outlines(layout, size), _boxes(layout, size)
    if masks:
        paths.append(folder / f"{name}-seg.dcm")
        write_segmentation(paths[-1], data, masks, seed, asked=True)
    if boxes:
        paths.append(folder / f"{name}-boxes.dcm")
        write_boxes(paths[-1], data, boxes, seed)
    return paths


def _outlines(layout: Layout, size: int) -> dict[str, Mask]:
    """Return the masks of all that was asked by an outline; objects of one structure are united."""
    found: dict[str, Mask] = {}
    for item in layout.objects:
        if item.mask is not None or item.shape is not None:
            drawn = resize_mask(item.draw(layout.extent, size), size)
            found[item.structure] = found.get(item.structure, np.zeros((size, size), bool)) | drawn
    return found


def _boxes(layout: Layout, size: int) -> dict[str, list[PixelBox]]:
    """Return the boxes, in pixels, of all that was asked by its box alone."""
    found: dict[str, list[PixelBox]] = {}
    for item in layout.objects:
        if item.is_box:
            x0, y0, x1, y1 = (min(max(v * size / layout.extent, 0.0), float(size)) for v in item.box)
            found.setdefault(item.structure, []).append((x0, y0, x1, y1))
    return found
