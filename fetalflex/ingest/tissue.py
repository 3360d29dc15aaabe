"""Which frames show tissue alone: what stays the same over them is ink, however faint."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from fetalflex.deid.pixels import SAMPLES
from fetalflex.dicom.read import Frame, FrameReader, frame_numbers
from fetalflex.dicom.region import Calibration, Rectangle, choose_crop
from fetalflex.errors import QuarantineError
from fetalflex.ingest.kinds import announces_flow, check_pixels


def tissue_region(frame: Frame, header: Dataset, calibration: Calibration) -> Rectangle:
    """Return the rectangle to cut out. Raises: QuarantineError no_ultrasound_region, colour_doppler, rendered_3d."""
    x0, y0, x1, y1 = choose_crop(calibration, frame.grey)
    check_pixels(frame.pixels[y0:y1, x0:x1], flow_announced=announces_flow(header))
    return x0, y0, x1, y1


def tissue_frames(reader: FrameReader, calibration: Calibration) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield some frames of a clip; none with flow or a rendering, in which nothing stays as it is in the others."""
    for number in frame_numbers(reader.total, SAMPLES):
        frame = reader.frame(number)
        with suppress(QuarantineError):  # who cuts the frame itself gives the reason
            tissue_region(frame, reader.header, calibration)
            yield frame.pixels
