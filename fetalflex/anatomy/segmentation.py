"""DICOM segmentations and reports with outlines -> layouts."""

from pathlib import Path

from fetalflex.anatomy.interchange import Picture, Reading
from fetalflex.anatomy.layout import Layout
from fetalflex.errors import AnnotationError, QuarantineError
from fetalflex.masks.annotations import read_annotations


def layout_from_segmentation(
    path: Path, image_uid: str, shape: tuple[int, int], reading: Reading, frame: int = 0
) -> Layout:
    """Return what a DICOM SEG (masks) or structured report (boxes) says about a frame (from 0) of an image.

    shape: the image's (rows, columns). Read as at the ingest (`masks.annotations`): structures are known by their
    codes. Raises: AnnotationError where the object is damaged, says nothing of the image, or has codes that the
    ontology does not have; LayoutError where a structure is none of the plane's.
    """
    try:
        read = read_annotations(path, image_uid)
    except (QuarantineError, OSError) as error:
        raise AnnotationError(f"{path.name}: no annotations ({error})") from error
    if read.unknown:
        raise AnnotationError(f"{path.name}: {read.unknown} items have codes that the ontology does not have")
    if read.shape is not None and read.shape != shape:
        raise AnnotationError(f"{path.name}: segmentation is {read.shape}; expected its image's {shape}")
    picture = Picture(*shape, reading.spacing_mm)
    found = [a for a in read.known if a.frame in (None, frame)]
    if not found:
        raise AnnotationError(f"{path.name}: says nothing of frame {frame + 1}; expected one of the annotated frames")
    objects = [picture.box(a.structure, a.box) if a.mask is None else picture.mask(a.structure, a.mask) for a in found]
    return picture.layout(objects, reading)
