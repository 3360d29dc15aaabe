"""From a center's raw files to rows of frames, annotations and quarantine: pure, bucket by bucket.

A bucket holds the files whose keyed content hash falls into it, so a new file changes one shard. Nothing here
depends on the order of files, on their names or on the clock.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import imagehash
import numpy as np
import polars as pl
from PIL import Image
from pydicom import Dataset

from fetalflex import artifacts, rng
from fetalflex.deid.allowlist import Kept, check_profile, keep
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.dicom.isolated import IsolatedDecoder
from fetalflex.dicom.pixels import is_doppler
from fetalflex.dicom.read import Frame, Limits, guarded, read_frames, read_header
from fetalflex.dicom.region import Geometry, choose_crop, fit_geometry, read_calibration
from fetalflex.errors import NoUsableFramesError, QuarantineError, Reason
from fetalflex.ingest.inventory import (
    Inventory,
    Rejected,
    SourceFile,
    build_manifest,
    locate,
    read_manifest,
    scan,
    write_manifest,
)
from fetalflex.masks.annotations import Annotation, Annotations, fit_annotation, read_annotations
from fetalflex.params import Center, Ingest

__all__ = ["BucketResult", "Inventory", "build_manifest", "check_usable", "ingest_bucket", "locate", "read_manifest",
           "scan", "write_manifest"]  # fmt: skip

Row = dict[str, Any]
SMALLEST_SIDE = 16
LEAST_RANGE = 16  # grey levels between the 1st and the 99th percentile of a frame that shows anything


@dataclass(frozen=True)
class BucketResult:
    """Rows of one bucket, for the schemas `tables.Frames`, `tables.Annotations` and `tables.Quarantine`."""

    frames: list[Row] = field(default_factory=list)
    annotations: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """What is the same for all files of a call."""

    inventory: Inventory
    name: str
    center: Center
    params: Ingest
    key: PseudonymKey
    decoder: IsolatedDecoder
    limits: Limits


def ingest_bucket(
    inventory: Inventory,
    bucket: int,
    shards: int,
    name: str,
    center: Center,
    params: Ingest,
    key: PseudonymKey,
) -> BucketResult:
    """Ingest one bucket of `shards` of center `name` with profile `center`.

    Of a clip the first and the middle frame are taken (`read.Limits.max_frames`). Rows of the inventory's own
    quarantine fall into buckets too, so that all buckets together hold every file.
    Raises: ParameterError where the profile names a plane that does not exist. Nothing else: bad files become rows.
    """
    check_profile(name, center)
    result = BucketResult()
    result.quarantine.extend(asdict(r) for r in inventory.rejected if rng.bucket(r.file_id, shards) == bucket)
    with IsolatedDecoder() as decoder:
        job = _Job(inventory, name, center, params, key, decoder, Limits())
        for item in inventory.images:
            if rng.bucket(item.content_id, shards) == bucket:
                _ingest_file(job, item, result)
    result.quarantine[:] = _unique(result.quarantine)
    return result


def check_usable(name: str, frames: int, quarantine: pl.DataFrame) -> None:
    """Raises: NoUsableFramesError naming the commonest reasons where a center gave no frame at all."""
    if frames:
        return
    counts = quarantine["reason"].value_counts().sort(["count", "reason"], descending=[True, False]).head(3)
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.iter_rows()) or "no image"
    raise NoUsableFramesError(
        f"center {name}: none of its files can be used ({reasons}); look at its quarantine table for each file's "
        f"reason, put ultrasound images there, or remove the center from ingest.centers"
    )


def _ingest_file(job: _Job, item: SourceFile, result: BucketResult) -> None:
    objects = job.inventory.annotations.get(item.uid, ())
    cases = 0
    try:
        for frame, case_id, geometry, row in _frames_of(job, item, result):
            result.frames.append(row)
            cases += 1
            for source in objects:
                _annotate(job, source, item.uid, (case_id, frame, geometry), result)
    except QuarantineError as error:
        result.quarantine.append(asdict(Rejected.of(item.file_id, error)))
    if not cases:
        orphan = QuarantineError(Reason.ORPHAN_ANNOTATION, "the image that it refers to is in quarantine")
        result.quarantine.extend(asdict(Rejected.of(source.file_id, orphan)) for source in objects)


def _frames_of(job: _Job, item: SourceFile, result: BucketResult) -> Iterator[tuple[Frame, str, Geometry, Row]]:
    """Yield the usable frames of a file; a frame that is not becomes a row of the quarantine."""
    path = job.inventory.folder / item.path
    header = read_header(path, job.limits)
    with guarded(Reason.DECODE_FAILED, "header cannot be read"):
        kept = keep(header, job.name, job.center, job.key)
    for frame in read_frames(path, job.decoder, job.limits):
        case_id = keyed_hash(job.key, "case", job.name, item.content_id, frame.number)
        try:
            geometry = _fit(frame, header, job.params.max_side_px)
            row = _frame_row(job, case_id, kept, frame, geometry)
        except QuarantineError as error:
            numbered = QuarantineError(error.reason, f"frame {frame.number}: {error.detail}")
            result.quarantine.append(asdict(Rejected.of(item.file_id, numbered)))
            continue
        yield frame, case_id, geometry, row


def _fit(frame: Frame, header: Dataset, max_side_px: int) -> Geometry:
    """Return the geometry of a frame. Raises: QuarantineError no_ultrasound_region, colour_doppler, bad_dimensions."""
    with guarded(Reason.DECODE_FAILED, "calibrated regions cannot be read"):
        calibration = read_calibration(header)
    crop = choose_crop(calibration, frame.grey)
    x0, y0, x1, y1 = crop
    if is_doppler(None if frame.coloured is None else frame.coloured[y0:y1, x0:x1]):
        raise QuarantineError(Reason.COLOUR_DOPPLER, "more than 1 % of the region is coloured")
    geometry = fit_geometry(crop, calibration.spacing_mm, max_side_px)
    if min(geometry.size) < SMALLEST_SIDE:
        raise QuarantineError(Reason.BAD_DIMENSIONS, f"region of {x1 - x0} x {y1 - y0} pixels")
    return geometry


def _frame_row(job: _Job, case_id: str, kept: Kept, frame: Frame, geometry: Geometry) -> Row:
    pixels = geometry.image(frame.grey)
    low, high = np.percentile(pixels, (1, 99.5))
    if high - low < LEAST_RANGE:
        raise QuarantineError(Reason.EMPTY_IMAGE, f"{high - low:.0f} grey levels; expected {LEAST_RANGE} at least")
    height, width = pixels.shape
    return {
        "case_id": case_id, "center": job.name, "patient": kept.patient,
        "image": artifacts.picture(pixels, case_id), "plane": kept.plane, "age_weeks": kept.age_weeks,
        "spacing_mm": None if geometry.spacing_mm is None else round(geometry.spacing_mm, 6),
        "height": height, "width": width, "device": kept.device,
        "pixels": hashlib.sha256(f"{height}x{width}:".encode() + pixels.tobytes()).hexdigest(),
        "phash": str(imagehash.phash(Image.fromarray(pixels))),
        "level": round(float(pixels[pixels > 0].mean()), 3), "marks": "[]",
    }  # fmt: skip


def _annotate(job: _Job, source: SourceFile, uid: str, case: tuple[str, Frame, Geometry], result: BucketResult) -> None:
    case_id, frame, geometry = case
    try:
        read = read_annotations(job.inventory.folder / source.path, uid)
        for error in _complaints(read, frame):
            result.quarantine.append(asdict(Rejected.of(source.file_id, error)))
        usable = () if _mismatch(read, frame) else read.known
    except QuarantineError as error:
        result.quarantine.append(asdict(Rejected.of(source.file_id, error)))
        return
    for item in usable:
        if item.frame in (None, frame.number):
            fitted = fit_annotation(item, geometry)
            if fitted is None:
                outside = QuarantineError(Reason.ANNOTATION_MISMATCH, "lies outside the ultrasound region")
                result.quarantine.append(asdict(Rejected.of(source.file_id, outside)))
            else:
                result.annotations.append(_annotation_row(case_id, fitted, result.annotations))


def _mismatch(read: Annotations, frame: Frame) -> bool:
    return read.shape is not None and read.shape != frame.grey.shape


def _complaints(read: Annotations, frame: Frame) -> Iterator[QuarantineError]:
    if read.unknown:
        detail = f"{read.unknown} of its items have a code that the ontology does not have"
        yield QuarantineError(Reason.UNKNOWN_STRUCTURE, detail)
    if _mismatch(read, frame) and read.shape is not None:
        detail = f"is {read.shape[1]} x {read.shape[0]}, its image {frame.grey.shape[1]} x {frame.grey.shape[0]} pixels"
        yield QuarantineError(Reason.ANNOTATION_MISMATCH, detail)


def _annotation_row(case_id: str, item: Annotation, before: list[Row]) -> Row:
    number = sum(r["case_id"] == case_id and r["structure"] == item.structure for r in before[-64:])
    mask = None
    if item.mask is not None:
        mask = artifacts.picture(item.mask.astype(np.uint8) * 255, f"{case_id}-{item.structure}-{number}")
    x0, y0, x1, y1 = item.box
    return {"case_id": case_id, "structure": item.structure, "number": number,
            "kind": "box" if mask is None else "mask", "mask": mask,
            "x0": x0, "y0": y0, "x1": x1, "y1": y1}  # fmt: skip


def _unique(rows: list[Row]) -> list[Row]:
    """Return the rows without repeats (an object of several frames complains once), sorted."""
    unique = {(r["file_id"], r["reason"], r["detail"]): r for r in rows}
    return [unique[name] for name in sorted(unique)]
