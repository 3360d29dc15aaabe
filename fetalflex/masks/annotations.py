"""Expert annotations: DICOM SEG and structured reports with boxes -> structures of the ontology, in source pixels.

Tolerant in reading: any binary, fractional or label-map segmentation and any report that holds closed outlines with
a finding is understood, not only those that `dicom.write` makes. Source: DICOM PS3.3 A.51 and C.8.20 (SEG),
PS3.16 TID 1410 (planar ROI), PS3.3 C.18.6 (spatial coordinates).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from fetalflex.anatomy.ontology import Structure, structure_by_code
from fetalflex.dicom.read import LABELMAP, REPORTS, SEGMENTATION, guarded
from fetalflex.dicom.region import Geometry, PixelBox
from fetalflex.errors import QuarantineError, Reason

Mask = npt.NDArray[np.bool_]
FINDING, TYPE_OF_FINDING = ("121071", "DCM"), ("276214006", "SCT")
MAX_SIDE = 8192


@dataclass(frozen=True, eq=False)
class Annotation:
    """One annotated structure. `mask` bool [H, W] or None (then only the box is known); `box` x0, y0, x1, y1 exclusive.

    `frame`: the image's frame number from 0 that it belongs to; None where the annotation does not say (all frames).
    """

    structure: str
    mask: Mask | None
    box: PixelBox
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Annotations:
    """What one object says: the structures, and how many items the ontology does not know."""

    known: tuple[Annotation, ...]
    unknown: int
    shape: tuple[int, int] | None  # (H, W) of a segmentation, None for reports


def is_annotation(header: Dataset) -> bool:
    """Whether an object's class can hold annotations."""
    return str(header.get("SOPClassUID", "")) in (SEGMENTATION, LABELMAP, *REPORTS)


def referenced_instances(header: Dataset) -> tuple[str, ...]:
    """Return the SOP Instance UIDs that a segmentation or report refers to, sorted, without its own."""
    found = {str(item.ReferencedSOPInstanceUID) for item in _walk(header) if item.get("ReferencedSOPInstanceUID")}
    return tuple(sorted(found - {str(header.get("SOPInstanceUID", ""))}))


def read_annotations(path: Path, image_uid: str) -> Annotations:
    """Return what the object at `path` says about the image `image_uid`.

    Segments without any pixel are left out: the tables have no form for *looked for and not visible*.
    Raises: QuarantineError decode_failed where the object is damaged, no_annotation where it holds nothing of ours.
    """
    with guarded(Reason.DECODE_FAILED, "annotation object cannot be read"):
        data = dcmread(path)
        read = _read_segments(data, image_uid) if "SegmentSequence" in data else _read_boxes(data, image_uid)
    if not read.known and not read.unknown:
        raise QuarantineError(Reason.NO_ANNOTATION, "annotation object holds no region of a structure")
    return read


def fit_annotation(annotation: Annotation, geometry: Geometry) -> Annotation | None:
    """Return an annotation in frame pixels, or None where nothing of it lies in the frame."""
    if annotation.mask is None:
        box = geometry.box(annotation.box)
        return None if box is None else replace(annotation, box=box)
    mask = geometry.mask(annotation.mask)
    return replace(annotation, mask=mask, box=mask_bounds(mask)) if mask.any() else None


def mask_bounds(mask: Mask) -> PixelBox:
    """Return the tight box x0, y0, x1, y1 (exclusive end) of a mask that is not empty."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _walk(item: Dataset) -> Iterator[Dataset]:
    """Yield all items of all sequences, without recursion: hostile files nest them by the hundred."""
    stack = [item]
    while stack:
        for element in stack.pop():
            if element.VR == "SQ" and element.value:
                stack.extend(element.value)
                yield from element.value


def _read_segments(data: Dataset, image_uid: str) -> Annotations:
    shape = (int(data.Rows), int(data.Columns))
    if max(shape) > MAX_SIDE:
        raise QuarantineError(Reason.TOO_LARGE, f"segmentation of {shape[1]} x {shape[0]} pixels")
    named = {int(s.SegmentNumber): _structure(s, "SegmentedPropertyTypeCodeSequence") for s in data.SegmentSequence}
    united: dict[tuple[str, int | None], Mask] = {}
    if int(data.get("NumberOfFrames", 0) or 0):
        planes = data.pixel_array.reshape(-1, *shape)
        for groups, plane in zip(data.PerFrameFunctionalGroupsSequence, planes, strict=False):
            place = _source_frame(groups, image_uid)
            if place is None:
                continue
            for number, mask in _segments_of(data, groups, plane):
                item = named.get(number)
                if item is not None and mask.any():
                    slot = (item.name, place[0])
                    united[slot] = united[slot] | mask if slot in united else mask
    known = tuple(Annotation(name, mask, mask_bounds(mask), frame) for (name, frame), mask in united.items())
    return Annotations(known, sum(item is None for item in named.values()), shape)


def _segments_of(data: Dataset, groups: Dataset, plane: npt.NDArray[Any]) -> Iterator[tuple[int, Mask]]:
    kind = str(data.get("SegmentationType", "BINARY"))
    if kind == "LABELMAP":
        yield from ((int(n), plane == n) for n in np.unique(plane) if n)
        return
    shared = (data.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    item = (groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence)[0]
    limit = int(data.get("MaximumFractionalValue", 1)) / 2 if kind == "FRACTIONAL" else 0
    yield int(item.ReferencedSegmentNumber), plane > limit


def _source_frame(groups: Dataset, image_uid: str) -> tuple[int | None] | None:
    """Return (frame number or None for all,) where a plane belongs to the image, None where it is of another one."""
    sources = [s for d in groups.get("DerivationImageSequence") or [] for s in d.get("SourceImageSequence") or []]
    if not sources:
        return (None,)  # the object's only image, or none is stated: the caller asked by reference
    for source in sources:
        if str(source.get("ReferencedSOPInstanceUID", "")) == image_uid:
            return (_frame_of(source),)
    return None


def _frame_of(reference: Dataset) -> int | None:
    value = reference.get("ReferencedFrameNumber")
    if value in (None, ""):
        return None
    return int(value if isinstance(value, int | str) else value[0]) - 1


def _read_boxes(data: Dataset, image_uid: str) -> Annotations:
    known: list[Annotation] = []
    unknown = 0
    for group in (data, *_walk(data)):
        content = group.get("ContentSequence") or []
        regions = [item for item in content if _is_outline(item)]
        if not regions:
            continue
        finding = next((i for i in content if _code(i, "ConceptNameCodeSequence") in (FINDING, TYPE_OF_FINDING)), None)
        item = None if finding is None else _structure(finding, "ConceptCodeSequence")
        for region in regions:
            frame = _referred_frame(region, image_uid)
            if frame is None:
                continue
            if item is None:
                unknown += 1
            else:
                known.append(Annotation(item.name, None, _bounds(region), frame[0]))
    return Annotations(tuple(known), unknown, None)


def _is_outline(item: Dataset) -> bool:
    return item.get("ValueType") == "SCOORD" and item.get("GraphicType") in ("POLYLINE", "ELLIPSE")


def _bounds(region: Dataset) -> PixelBox:
    points = np.asarray(region.GraphicData, np.float64).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def _referred_frame(region: Dataset, image_uid: str) -> tuple[int | None] | None:
    references = [i for i in _walk(region) if i.get("ReferencedSOPInstanceUID")]
    if not references:
        return (None,)
    return next(
        ((_frame_of(r),) for r in references if str(r.ReferencedSOPInstanceUID) == image_uid),
        None,
    )


def _structure(item: Dataset, sequence: str) -> Structure | None:
    code, scheme = _code(item, sequence)
    return structure_by_code(scheme, code)


def _code(item: Dataset, sequence: str) -> tuple[str, str]:
    codes = item.get(sequence) or []
    return (str(codes[0].get("CodeValue", "")), str(codes[0].get("CodingSchemeDesignator", ""))) if codes else ("", "")
