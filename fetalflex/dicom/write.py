"""DICOM out: Ultrasound Image objects, Segmentations and boxes as structured reports, byte-identical for equal input.

Nothing is invented: what is not known (spacing, age, dates) is absent or empty in the file. UIDs come from
names by `derive_uid`, dates from the image; no clock is read.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, UltrasoundImageStorage

from fetalflex import __version__
from fetalflex.anatomy.ontology import Structure, structure, structure_index
from fetalflex.artifacts import atomic
from fetalflex.dicom.uids import derive_uid
from fetalflex.errors import AnnotationError, SourceError

__all__ = ["UltrasoundImage", "compress_jpeg_lossless", "derive_uid", "write_boxes", "write_segmentation",
           "write_ultrasound"]  # fmt: skip

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
PixelBox = tuple[float, float, float, float]
Syntax = Literal["explicit", "rle", "jpeg-lossless"]

GESTATIONAL_AGE = Code("18185-9", "LN", "Gestational age")
WEEK = Code("wk", "UCUM", "week")
ANATOMICAL = Code("123037004", "SCT", "Anatomical Structure")
CENTIMETRE = 3  # Physical Units, PS3.3 C.8.5.5.1.15
SOFTWARE = "FetalFlex"


@dataclass(frozen=True, eq=False)
class UltrasoundImage:
    """One still image and what is written beside it.

    pixels: uint8 [H, W] (MONOCHROME2) or [H, W, 3] (RGB). spacing_mm: (row, column) mm per pixel, None where unknown:
    then the file states none. region: (x0, y0, x1, y1) pixels, exclusive end, of the ultrasound within the
    frame. age_weeks: gestational age. lossy_note: how the pixels were compressed with loss before they
    came here (then LossyImageCompression is 01). extra: further attributes by DICOM keyword.
    """

    pixels: Pixels
    sop_uid: str
    study_uid: str
    series_uid: str
    patient_id: str
    patient_name: str = ""
    manufacturer: str = ""
    model: str = ""
    study_description: str = ""
    series_description: str = ""
    image_comments: str = ""
    age_weeks: float | None = None
    spacing_mm: tuple[float, float] | None = None
    region: tuple[int, int, int, int] | None = None
    lossy_note: str = ""
    burned_in: bool | None = None
    number: int = 1
    syntax: Syntax = "explicit"
    extra: Mapping[str, str] = field(default_factory=dict)


def write_ultrasound(path: Path, image: UltrasoundImage) -> Dataset:
    """Write one Ultrasound Image (1.2.840.10008.5.1.4.1.1.6.1) and return its dataset (with its file meta).

    Known spacing is stated where ultrasound states it, in Sequence of Ultrasound Regions (0018,6011): units 3 (cm),
    Physical Delta X = column spacing / 10; without `region` the region is the whole frame. A region without spacing
    has units 0 (none) and deltas 0, so that no reader can take them for a spacing (the attributes are Type 1).
    Gestational age: a numeric content item in Acquisition Context Sequence (0040,0555), LOINC 18185-9 in UCUM wk.
    `jpeg-lossless` runs a process per call: for many files write them `explicit`, then `compress_jpeg_lossless`.
    Source: DICOM PS3.3 A.6, C.8.5.5, C.8.5.6 and C.7.6.14 (a Standard Extended SOP Class by the last).
    Raises: SourceError for pixels of another type or shape, a spacing that is not positive, a region out of the frame.
    """
    _check(image)
    data = _header(image)
    data.update(_pixel_module(image.pixels))
    if image.region is not None or image.spacing_mm is not None:
        data.SequenceOfUltrasoundRegions = [_region(image)]
    if image.age_weeks is not None:
        data.AcquisitionContextSequence = [_age_item(image.age_weeks)]
    for keyword, value in image.extra.items():
        setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if image.syntax == "rle":
        data.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    with atomic(path) as partial:
        data.save_as(partial, enforce_file_format=True)
    if image.syntax == "jpeg-lossless":
        compress_jpeg_lossless([path])
    return data


def compress_jpeg_lossless(paths: Sequence[Path]) -> None:
    """Compress uncompressed files in place to JPEG Lossless, Process 14 SV1 (1.2.840.10008.1.2.4.70), in one process.

    The codec (GDCM) runs in a process of its own: it is C++ that can take its process down with it.
    It refuses frames with an odd number of bytes (a limit of GDCM): those take `rle`.
    Raises: SourceError naming the number of the file that the codec refused.
    """
    listed = "\n".join(str(p.resolve()) for p in paths)
    command = [sys.executable, "-m", "fetalflex.dicom.compress"]
    done = subprocess.run(command, input=listed, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SourceError(f"JPEG lossless compression failed: {reason[0]}; write the files with syntax 'rle' instead")


def write_segmentation(
    path: Path, image: Dataset, masks: Mapping[str, Mask], uid_seed: str, *, asked: bool = False
) -> Dataset:
    """Write masks (structure -> bool [H, W], they may overlap) as a binary DICOM SEG that refers to `image`.

    One segment per structure in the ontology's order, labelled with its name; category 123037004 SCT
    Anatomical Structure, type from the ontology (scheme 99FETALFLEX where SNOMED CT has none); an empty mask is
    a segment without frame, that is, *annotated as not visible*. `asked`: the masks are what a synthetic image was made
    from, not what an expert drew. Source: DICOM PS3.3 A.51 and C.8.20.
    Raises: AnnotationError for no masks, an unknown structure or a mask of another size than the image.
    """
    shape = (int(image.Rows), int(image.Columns))
    named = _in_order(masks)
    for item in named:
        if masks[item.name].shape != shape:
            raise AnnotationError(f"mask of {item.name!r} is {masks[item.name].shape}; expected the image's {shape}")
    stack = np.stack([masks[item.name] for item in named], axis=-1)[None].astype(np.uint8)
    kinds = hd.seg.SegmentAlgorithmTypeValues
    how = {"algorithm_type": kinds.AUTOMATIC, "algorithm_identification": _layout_algorithm()} if asked else {
        "algorithm_type": kinds.MANUAL
    }  # fmt: skip
    segments = [
        hd.seg.SegmentDescription(i, item.name, ANATOMICAL, _code(item), **how) for i, item in enumerate(named, 1)
    ]
    data: Dataset = hd.seg.Segmentation(
        [image],
        stack,
        hd.seg.SegmentationTypeValues.BINARY,
        segments,
        series_number=100,
        content_label="ANATOMY",
        content_description=f"Fetal anatomy, {'as asked of the generator' if asked else 'expert outlines'}",
        software_versions=SOFTWARE,
        device_serial_number="0",
        **_identity(uid_seed, "seg"),
    )
    organization = derive_uid(uid_seed, "seg", "dimensions")
    for item in (*data.DimensionOrganizationSequence, *data.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return _save(path, data, image)


def write_boxes(path: Path, image: Dataset, boxes: Mapping[str, Sequence[PixelBox]], uid_seed: str) -> Dataset:
    """Write boxes (structure -> list of (x0, y0, x1, y1)) as a Comprehensive SR that refers to `image`.

    A Measurement Report (TID 1500) with one Planar ROI group (TID 1410) per box: *Finding* (121071 DCM) is the
    structure's code, *Image Region* (111030 DCM) a SCOORD of type POLYLINE with the five points (x0,y0) (x1,y0)
    (x1,y1) (x0,y1) (x0,y0), closed. Columns and rows run from (0,0) at the outer corner of the first pixel, so x1, y1
    exclusive are the box's outer edge. Tracking Identifier is "<structure> <number>". Nothing else is
    measured, so a group with such a rectangle is a box and no outline. Source: DICOM PS3.16 TID 1500 and 1410,
    PS3.3 C.18.6. Raises: AnnotationError for no boxes, an unknown structure, a box that is empty or out of the image.
    """
    rows, columns = int(image.Rows), int(image.Columns)
    groups = []
    for item in _in_order(boxes):
        for i, (x0, y0, x1, y1) in enumerate(boxes[item.name], 1):
            if not (0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows):
                raise AnnotationError(
                    f"box {i} of {item.name!r} ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty or leaves the image of "
                    f"{columns} x {rows} pixels; expected x0 < x1 and y0 < y1 inside it"
                )
            corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], np.float32)
            groups.append(_box_group(image, item, f"{item.name} {i}", corners, derive_uid(uid_seed, item.name, i)))
    if not groups:
        raise AnnotationError("there are no boxes to write; expected at least one structure with a box")
    observer = hd.sr.DeviceObserverIdentifyingAttributes(uid=derive_uid(SOFTWARE, "observer"), name=SOFTWARE)
    context = hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(Code("121007", "DCM", "Device"), observer)
    )
    report = hd.sr.MeasurementReport(context, Code("16310003", "SCT", "Ultrasonography"), imaging_measurements=groups)
    data: Dataset = hd.sr.ComprehensiveSR(
        [image], report, series_number=101, is_complete=True, **_identity(uid_seed, "boxes")
    )
    return _save(path, data, image)


def _layout_algorithm() -> Any:
    """Return what says that outlines come from a layout. Source: DICOM PS3.16 CID 7162."""
    family = Code("123110", "DCM", "Artificial Intelligence")
    return hd.AlgorithmIdentificationSequence(f"{SOFTWARE} layout", family, __version__)


def _check(image: UltrasoundImage) -> None:
    pixels = image.pixels
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise SourceError(f"pixels are {pixels.dtype} {pixels.shape}; expected uint8 [H, W] or [H, W, 3]")
    if image.spacing_mm is not None and not min(image.spacing_mm) > 0:
        raise SourceError(f"spacing is {image.spacing_mm}; expected positive millimetres, or None where unknown")
    if image.region is not None:
        x0, y0, x1, y1 = image.region
        if not (0 <= x0 < x1 <= pixels.shape[1] and 0 <= y0 < y1 <= pixels.shape[0]):
            raise SourceError(f"region {image.region} leaves the frame of {pixels.shape[1]} x {pixels.shape[0]} pixels")


def _header(image: UltrasoundImage) -> Dataset:
    """Patient, study, series, equipment, general image, SOP common: Type 2 attributes are empty where unknown."""
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = UltrasoundImageStorage, image.sop_uid
    data.StudyInstanceUID, data.SeriesInstanceUID = image.study_uid, image.series_uid
    data.PatientID, data.PatientName = image.patient_id, image.patient_name
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
                    "ReferringPhysicianName", "PatientOrientation", "ContentDate", "ContentTime"):  # fmt: skip
        setattr(data, keyword, "")
    data.Modality = "US"
    data.SeriesNumber, data.InstanceNumber = 1, image.number
    data.Manufacturer = image.manufacturer
    optional = {"ManufacturerModelName": image.model, "StudyDescription": image.study_description,
                "SeriesDescription": image.series_description, "ImageComments": image.image_comments,
                "DerivationDescription": image.lossy_note}  # fmt: skip
    for keyword, value in optional.items():
        if value:
            setattr(data, keyword, value)
    # Value 3 and 4: obstetrical, two-dimensional imaging (PS3.3 C.8.5.6.1.1).
    data.ImageType = ["DERIVED" if image.lossy_note else "ORIGINAL", "PRIMARY", "OBSTETRICAL", "0001"]
    data.LossyImageCompression = "01" if image.lossy_note else "00"
    if image.burned_in is not None:
        data.BurnedInAnnotation = "YES" if image.burned_in else "NO"
    return data


def _pixel_module(pixels: Pixels) -> Dataset:
    data = Dataset()
    colour = pixels.ndim == 3
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = pixels.shape[:2]
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    raw = np.ascontiguousarray(pixels).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB"
    return data


def _region(image: UltrasoundImage) -> Dataset:
    height, width = image.pixels.shape[:2]
    x0, y0, x1, y1 = image.region or (0, 0, width, height)
    data = Dataset()
    data.RegionSpatialFormat, data.RegionDataType, data.RegionFlags = 1, 1, 0  # 2D, tissue, opaque
    data.RegionLocationMinX0, data.RegionLocationMinY0 = x0, y0
    data.RegionLocationMaxX1, data.RegionLocationMaxY1 = x1 - 1, y1 - 1  # DICOM names the last pixel
    units = CENTIMETRE if image.spacing_mm else 0
    row, column = image.spacing_mm or (0.0, 0.0)
    data.PhysicalUnitsXDirection = data.PhysicalUnitsYDirection = units
    data.PhysicalDeltaX, data.PhysicalDeltaY = column / 10, row / 10
    return data


def _age_item(weeks: float) -> Dataset:
    data = Dataset()
    data.ValueType = "NUMERIC"
    data.ConceptNameCodeSequence = [hd.sr.CodedConcept.from_code(GESTATIONAL_AGE)]
    data.MeasurementUnitsCodeSequence = [hd.sr.CodedConcept.from_code(WEEK)]
    data.NumericValue = f"{weeks:.4g}"
    return data


def _in_order(items: Mapping[str, Any]) -> list[Structure]:
    """Return the structures named, in the order of their names' place in the ontology, so that bytes do not vary."""
    if not items:
        raise AnnotationError("there is nothing to annotate; expected at least one structure")
    return sorted((structure(name) for name in items), key=lambda s: structure_index(s.name))


def _code(item: Structure) -> Code:
    return Code(item.code, item.scheme, item.meaning)


def _box_group(image: Dataset, item: Structure, name: str, corners: npt.NDArray[np.float32], uid: str) -> Any:
    source = hd.sr.SourceImageForRegion.from_source_image(image)
    region = hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, corners, source)
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uid, identifier=name),
        referenced_region=region,
        finding_type=_code(item),
    )


def _identity(uid_seed: str, kind: str) -> dict[str, Any]:
    return {
        "series_instance_uid": derive_uid(uid_seed, kind, "series"),
        "sop_instance_uid": derive_uid(uid_seed, kind, "instance"),
        "instance_number": 1,
        "manufacturer": SOFTWARE,
        **({"manufacturer_model_name": SOFTWARE} if kind == "seg" else {}),
    }


def _save(path: Path, data: Dataset, image: Dataset) -> Dataset:
    """Write highdicom's dataset with the image's dates in place of the clock's."""
    day, clock = str(image.get("StudyDate", "")) or "19000101", str(image.get("StudyTime", "")) or "000000"
    for element in data.iterall():
        if element.VR == "DA" and element.keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
            element.value = day
        elif element.VR == "TM" and element.keyword in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
            element.value = clock
        elif element.VR == "DT":
            element.value = day + clock
    if image.get("SyntheticData"):
        data.SyntheticData = image.SyntheticData  # what is said of an image that shows nobody is as synthetic
    with atomic(path) as partial:
        data.save_as(partial, enforce_file_format=True)
    return data
