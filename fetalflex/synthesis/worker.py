"""What editing asks of a DICOM file of unknown origin, in a worker of `fetalflex.dicom.sandbox`."""

from collections.abc import Iterator
from pathlib import Path

from fetalflex.deid.pixels import PixelCleaner
from fetalflex.dicom.pixels import to_luma
from fetalflex.dicom.read import FrameReader, guarded, open_dicom
from fetalflex.dicom.region import choose_crop, fit_geometry, read_calibration
from fetalflex.dicom.sandbox import Answer
from fetalflex.errors import Reason
from fetalflex.ingest.tissue import tissue_frames

LARGEST_SIDE = 1024


def picture(path: str) -> Iterator[Answer]:
    """Yield the ultrasound of the file's first frame, without any text: {spacing_mm, frames} and grey [H, W] uint8.

    Cut and scaled to square pixels as at the ingest. Raises: QuarantineError with the reason why it cannot be used.
    """
    with open_dicom(Path(path)) as file:
        reader = FrameReader(file)
        with guarded(Reason.DECODE_FAILED, "header cannot be read"):
            calibration = read_calibration(file.header)
        frame = reader.frame(0)
        crop = choose_crop(calibration, frame.grey)
        geometry = fit_geometry(crop, calibration.spacing_mm, LARGEST_SIDE)
        cleaner = PixelCleaner(file.header)
        if reader.total > 1:
            cleaner.prepare(tissue_frames(reader, calibration))
        cleaned = cleaner.clean(frame.pixels, alone=True)
        pixels = geometry.image(to_luma(cleaned.pixels))
    yield {"spacing_mm": geometry.spacing_mm, "frames": reader.total}, [pixels]
