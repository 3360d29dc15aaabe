from pathlib import Path

import numpy as np

from fetalflex.deid.pixels import SAMPLES
from fetalflex.dicom.entry import open_dicom
from fetalflex.dicom.read import FrameReader, frame_numbers
from fetalflex.dicom.region import read_calibration
from fetalflex.ingest.tissue import tissue_frames
from tests.fetalflex.dicom.samples import changed, screen, write_image

FLOW = (1, 3, 4)


def test_frames_with_flow_tell_nothing_of_what_stays(tmp_path: Path) -> None:
    frames = np.stack([np.repeat(screen(seed)[..., None], 3, axis=2) for seed in range(6)])
    for number in FLOW:
        frames[number, 40:80, 60:120] = (220, 30, 30)
    path = tmp_path / "clip.dcm"
    write_image(path, pixels=frames[0])
    changed(path, NumberOfFrames=6, SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1", PixelData=frames.tobytes())
    with open_dicom(path) as file:
        found = list(tissue_frames(FrameReader(file), read_calibration(file.header)))
    looked_at = frame_numbers(6, SAMPLES)
    assert set(FLOW) & set(looked_at)
    assert np.array_equal(found, [frames[n] for n in looked_at if n not in FLOW])
