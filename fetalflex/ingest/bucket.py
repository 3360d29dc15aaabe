"""From a center's raw files to rows of frames, annotations and quarantine: pure, bucket by bucket.

A bucket holds the files whose keyed content hash falls into it, so a new file changes one shard. Nothing here
depends on the order of files, on their names or on the clock.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from fetalflex import artifacts, rng
from fetalflex.deid.allowlist import check_profile
from fetalflex.deid.keys import PseudonymKey, keyed_hash
from fetalflex.dicom.region import Geometry
from fetalflex.dicom.sandbox import Sandbox
from fetalflex.errors import NoUsableFramesError, QuarantineError, Reason
from fetalflex.ingest import worker
from fetalflex.ingest.inventory import Inventory, Rejected, SourceFile, scan
from fetalflex.ingest.level import tissue_level
from fetalflex.marks import read_marks
from fetalflex.masks.annotations import Annotation, fit_annotation
from fetalflex.params import Center, Ingest

__all__ = ["BucketResult", "Inventory", "check_usable", "ingest_bucket", "scan"]

Row = dict[str, Any]
# A worker that has grown is replaced: what the text detector keeps of memory must not look like growth.
PRELOAD = ("fetalflex.ingest.worker", "fetalflex.deid.ocr:warm_up")


@dataclass(frozen=True)
class BucketResult:
    """Rows of one bucket, for the schemas `tables.Frames`, `Annotations`, `Quarantine` and `Findings`."""

    frames: list[Row] = field(default_factory=list)
    annotations: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)
    findings: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """A frame that was taken: its case, its number in the file, the source's (H, W), and the way into the frame."""

    case_id: str
    number: int
    shape: tuple[int, int]
    geometry: Geometry


@dataclass(frozen=True)
class _Job:
    """What is the same for all files of a call."""

    inventory: Inventory
    name: str
    center: Center
    params: Ingest
    key: PseudonymKey
    sandbox: Sandbox


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

    Of a clip the frames are taken that the profile's rule chooses. Rows of the inventory's own
    quarantine fall into buckets too, so that all buckets together hold every file.
    Raises: ParameterError where the profile names a plane that does not exist. Nothing else: bad files become rows.
    """
    check_profile(name, center)
    result = BucketResult()
    result.quarantine.extend(asdict(r) for r in inventory.rejected if rng.bucket(r.file_id, shards) == bucket)
    with Sandbox(key=key, preload=PRELOAD) as sandbox:
        job = _Job(inventory, name, center, params, key, sandbox)
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
    objects = () if job.center.annotations == "none" else job.inventory.annotations.get(item.uid, ())
    places: list[_Place] = []
    try:
        for place, row in _frames_of(job, item, result):
            result.frames.append(row)
            places.append(place)
    except QuarantineError as error:
        result.quarantine.append(asdict(Rejected.of(item.file_id, error)))
    for source in objects:
        if places:
            _annotate(job, source, item.uid, places, result)
        else:
            orphan = QuarantineError(Reason.ORPHAN_ANNOTATION, "the image that it refers to is in quarantine")
            result.quarantine.append(asdict(Rejected.of(source.file_id, orphan)))


def _frames_of(job: _Job, item: SourceFile, result: BucketResult) -> Iterator[tuple[_Place, Row]]:
    """Yield the usable frames of a file; a frame that is not becomes a row of the quarantine."""
    answers = job.sandbox.run(
        worker.frames, path=str(job.inventory.folder / item.path), name=job.name,
        center=job.center.model_dump(mode="json"), max_side_px=job.params.max_side_px,
    )  # fmt: skip
    for said, arrays in answers:
        if "quarantine" in said:
            reason, detail = said["quarantine"]
            error = QuarantineError(Reason(reason), f"frame {said['number']}: {detail}")
            result.quarantine.append(asdict(Rejected.of(item.file_id, error)))
            continue
        found = said["geometry"]
        geometry = Geometry(tuple(found["crop"]), tuple(found["size"]), found["spacing_mm"])
        case_id = keyed_hash(job.key, "case", job.name, item.content_id, said["number"])
        kept = said["kept"] | {"marks": json.dumps(said["marks"])}
        finding = kept.pop("finding", None)
        if finding is not None:
            result.findings.append({"case_id": case_id, "finding": finding})
        row = _frame_row(job.name, case_id, kept, geometry.spacing_mm, arrays[0])
        yield _Place(case_id, said["number"], tuple(said["shape"]), geometry), row


def _frame_row(center: str, case_id: str, kept: Row, spacing_mm: float | None, pixels: npt.NDArray[Any]) -> Row:
    height, width = pixels.shape
    return {
        "case_id": case_id, "center": center, **kept, "image": artifacts.picture(pixels, case_id),
        "spacing_mm": None if spacing_mm is None else round(spacing_mm, 6), "height": height, "width": width,
        "pixels": hashlib.sha256(f"{height}x{width}:".encode() + pixels.tobytes()).hexdigest(),
        "phash": str(imagehash.phash(Image.fromarray(pixels))),
        "level": round(tissue_level(pixels, read_marks(kept["marks"], height, width)), 3),
    }  # fmt: skip


def _annotate(job: _Job, source: SourceFile, uid: str, places: list[_Place], result: BucketResult) -> None:
    """Add what one object says about the frames of an image, and a row of the quarantine for each complaint."""

    def complain(error: QuarantineError) -> None:
        result.quarantine.append(asdict(Rejected.of(source.file_id, error)))

    path, before = str(job.inventory.folder / source.path), len(result.annotations)
    try:
        answers = job.sandbox.run(worker.annotations, path=path, image_uid=uid)
        about, _ = next(answers)
        shape = None if about["shape"] is None else tuple(about["shape"])
        fitting = [p for p in places if shape in (None, p.shape)]
        for error in _complaints(about["unknown"], shape, places):
            complain(error)
        for said, arrays in answers:
            if job.center.annotations == ("boxes" if arrays else "segmentations"):
                continue  # the profile wants the other kind
            item = Annotation(said["structure"], arrays[0] if arrays else None, tuple(said["box"]), said["frame"])
            for place in fitting:
                if item.frame not in (None, place.number):
                    continue
                fitted = fit_annotation(item, place.geometry)
                if fitted is None:
                    complain(QuarantineError(Reason.ANNOTATION_MISMATCH, "lies outside the ultrasound region"))
                else:
                    result.annotations.append(_annotation_row(place.case_id, fitted, result.annotations))
    except QuarantineError as error:
        del result.annotations[before:]  # all of an object or nothing
        complain(error)


def _complaints(unknown: int, shape: tuple[int, ...] | None, places: list[_Place]) -> Iterator[QuarantineError]:
    if unknown:
        detail = f"{unknown} of its items have a code that the ontology does not have"
        yield QuarantineError(Reason.UNKNOWN_STRUCTURE, detail)
    for place in places:
        if shape is not None and shape != place.shape:
            detail = f"is {shape[1]} x {shape[0]}, its image {place.shape[1]} x {place.shape[0]} pixels"
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
