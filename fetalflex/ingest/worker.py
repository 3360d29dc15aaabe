"""What ingest asks of a raw file, each in a worker of `fetalflex.dicom.sandbox`: facts, frames, annotations.

The only functions of ingest that parse DICOM. Each yields answers (JSON object, arrays) and raises QuarantineError.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from fetalflex.artifacts import file_sha256
from fetalflex.deid.allowlist import keep
from fetalflex.deid.keys import PseudonymKey
from fetalflex.deid.pixels import Mark, PixelCleaner
from fetalflex.dicom.pixels import to_luma
from fetalflex.dicom.read import (
    LIMITS,
    Frame,
    FrameReader,
    Limits,
    check_image,
    frame_numbers,
    guarded,
    open_dicom,
    read_header,
)
from fetalflex.dicom.region import Calibration, Geometry, fit_geometry, read_calibration
from fetalflex.dicom.sandbox import Answer
from fetalflex.errors import QuarantineError, Reason
from fetalflex.ingest.clips import candidate_numbers, choose_stills, even_numbers, tiny
from fetalflex.ingest.kinds import check_header
from fetalflex.ingest.tissue import tissue_frames, tissue_region
from fetalflex.masks.annotations import is_annotation, read_annotations, referenced_instances
from fetalflex.params import Center, Clips

SMALLEST_SIDE = 16
LEAST_RANGE = 16  # grey levels between the 1st and the 99th percentile of a frame that shows anything


def inspect(path: str) -> Iterator[Answer]:
    """Yield one file's facts: kind (image or annotation), uid, content (SHA-256), references, syntax, size.

    `references`: SOP Instance UIDs that an annotation refers to. The answer holds raw identifiers: it stays in memory.
    """
    file = Path(path)
    header = read_header(file)
    with guarded(Reason.DECODE_FAILED, "header cannot be read"):
        annotation = is_annotation(header)
        facts: dict[str, Any] = {
            "kind": "annotation" if annotation else "image",
            "uid": str(header.get("SOPInstanceUID", "")),
            "references": referenced_instances(header) if annotation else [],
            "modality": str(header.get("Modality", "")),
            "syntax": str(header.file_meta.get("TransferSyntaxUID", "")),
            "bytes": file.stat().st_size,
        }
        if not annotation:
            facts["frames"] = check_image(header)
            facts["rows"], facts["columns"] = int(header.Rows), int(header.Columns)
        facts["content"] = file_sha256(file)
    yield facts, []


def inspect_many(paths: list[str]) -> Iterator[Answer]:
    """Yield for each file in turn what `inspect` does, or {quarantine: [reason, detail]}."""
    for path in paths:
        try:
            yield from inspect(path)
        except QuarantineError as error:
            yield {"quarantine": [error.reason.value, error.detail]}, []
        except OSError as error:
            yield {"quarantine": [Reason.UNREADABLE.value, f"cannot be read ({type(error).__name__})"]}, []


def frames(path: str, name: str, center: dict[str, Any], max_side_px: int, key: PseudonymKey) -> Iterator[Answer]:
    """Yield each chosen frame of an image: its place, what is kept of the header, and its pixels [H, W] uint8.

    `name`, `center`: the center's name and profile. A frame that cannot be used is {number, quarantine: [reason,
    detail]} without pixels. `marks`: [{kind, box}] of what was blanked or drawn, in frame pixels. `geometry` is that
    of `region.Geometry`, `shape` the source's (H, W).
    """
    profile, limits = Center.model_validate(center), Limits()
    with open_dicom(Path(path), limits) as file:
        header = file.header
        with guarded(Reason.DECODE_FAILED, "header cannot be read"):
            kept = asdict(keep(header, name, profile, key))
            check_header(header)
            calibration = _calibration(header, profile)
        reader, cleaner = FrameReader(file, limits), PixelCleaner(header)
        if reader.total > 1:
            # What stays while the tissue moves is ink, however faint: that is seen over several frames alone.
            cleaner.prepare(tissue_frames(reader, calibration))
        for number in _stills(reader, calibration, profile.clips):
            frame = reader.frame(number)
            try:
                geometry = _fit(frame, header, calibration, max_side_px)
                # No pixel leaves this function before its texts are gone.
                cleaned = cleaner.clean(frame.pixels, alone=True)
                pixels = geometry.image(to_luma(cleaned.pixels))
                low, high = np.percentile(pixels, (1, 99.5))
                if high - low < LEAST_RANGE:
                    detail = f"{high - low:.0f} grey levels; expected {LEAST_RANGE} at least"
                    raise QuarantineError(Reason.EMPTY_IMAGE, detail)  # noqa: TRY301
            except QuarantineError as error:
                yield {"number": frame.number, "quarantine": [error.reason.value, error.detail]}, []
                continue
            placed = {"number": frame.number, "geometry": asdict(geometry), "shape": frame.grey.shape}
            placed["marks"] = _frame_marks(cleaned.marks, geometry)
            yield placed | {"kept": kept}, [pixels]


def decoded(path: str, numbers: list[int] | None = None) -> Iterator[Answer]:
    """Yield frames as they are decoded, nothing cut or cleaned: {number, total} and pixels [H, W] or [H, W, 3] uint8.

    `numbers`: which frames; None: evenly spaced ones.
    """
    with open_dicom(Path(path)) as file:
        reader = FrameReader(file)
        for number in frame_numbers(reader.total, LIMITS.max_frames) if numbers is None else numbers:
            yield {"number": number, "total": reader.total}, [reader.frame(number).pixels]


def annotations(path: str, image_uid: str) -> Iterator[Answer]:
    """Yield {unknown, shape}, then each structure {structure, box, frame} with its mask [H, W] bool, if it has one."""
    read_header(Path(path))  # what the door refuses is not parsed
    read = read_annotations(Path(path), image_uid)
    yield {"unknown": read.unknown, "shape": read.shape}, []
    for item in read.known:
        said = {"structure": item.structure, "box": item.box, "frame": item.frame}
        yield said, [] if item.mask is None else [item.mask]


def _frame_marks(marks: Sequence[Mark], geometry: Geometry) -> list[dict[str, Any]]:
    """Return marks of the source in frame pixels, without those that lie outside of the frame."""
    placed = ((mark.kind, geometry.box(mark.box)) for mark in marks)
    return [{"kind": kind, "box": [round(v, 2) for v in box]} for kind, box in placed if box is not None]


def _calibration(header: Dataset, profile: Center) -> Calibration:
    """Return region and spacing under the profile's policy. Raises: QuarantineError no_spacing."""
    calibration = read_calibration(header)
    if profile.spacing == "required" and calibration.spacing_mm is None:
        raise QuarantineError(Reason.NO_SPACING, "states no spacing, which the center's profile requires")
    return replace(calibration, spacing_mm=None) if profile.spacing == "ignore" else calibration


def _stills(reader: FrameReader, calibration: Calibration, clips: Clips) -> list[int]:
    """Return the numbers of a file's stills; `distinct` chooses among frames of tissue, where there are any."""
    numbers = candidate_numbers(reader.total, clips)
    if clips.rule == "even" or len(numbers) < 2:
        return numbers
    tinies = {}
    for number in numbers:
        frame = reader.frame(number)
        try:
            tissue_region(frame, reader.header, calibration)
        except QuarantineError:
            continue
        tinies[number] = tiny(frame.grey)
    # Where no frame is usable, the evenly spaced ones tell why.
    return choose_stills(list(tinies), tinies.values(), clips) if tinies else even_numbers(reader.total, clips.frames)


def _fit(frame: Frame, header: Dataset, calibration: Calibration, max_side_px: int) -> Geometry:
    """Return the geometry of a frame. Raises: QuarantineError as `tissue_region`, or bad_dimensions."""
    crop = tissue_region(frame, header, calibration)
    geometry = fit_geometry(crop, calibration.spacing_mm, max_side_px)
    if min(geometry.size) < SMALLEST_SIDE:
        raise QuarantineError(Reason.BAD_DIMENSIONS, f"region of {crop[2] - crop[0]} x {crop[3] - crop[1]} pixels")
    return geometry
