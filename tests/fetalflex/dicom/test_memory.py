import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from fetalflex.deid import worker as deid_worker
from fetalflex.deid.folder import BUDGET, PRELOAD
from fetalflex.dicom.sandbox import Sandbox
from fetalflex.ingest import worker
from fetalflex.params import Deidentify
from tests.fetalflex.dicom.samples import KEY, write_image

FRAMES, ROWS, COLUMNS = 50, 672, 1016


def write_clip(path: Path, syntax: str) -> None:
    """Write a colour clip of speckle, uncompressed, RLE or JPEG."""
    speckle = np.random.default_rng(0).integers(0, 255, (ROWS, COLUMNS, 3), np.uint8)
    write_image(path, pixels=speckle)
    data = dcmread(path)
    data.NumberOfFrames, data.SOPClassUID = FRAMES, "1.2.840.10008.5.1.4.1.1.3.1"
    frames = [np.roll(speckle, 7 * i, axis=1) for i in range(FRAMES)]
    if syntax == "jpeg":
        streams = []
        for frame in frames:
            out = io.BytesIO()
            Image.fromarray(frame).save(out, "JPEG", quality=90)
            streams.append(out.getvalue())
        data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate(streams), JPEGBaseline8Bit
        data.PhotometricInterpretation = "YBR_FULL_422"
    else:
        data.PixelData = np.stack(frames).tobytes()
        if syntax == "rle":
            data.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    dcmwrite(path, data)


@pytest.mark.slow
@pytest.mark.parametrize("syntax", ["native", "rle", "jpeg"])
def test_a_worker_reads_a_colour_clip_of_50_frames_within_512_mib(tmp_path: Path, syntax: str) -> None:
    write_clip(tmp_path / "a.dcm", syntax)
    with Sandbox() as sandbox:
        seen = 0
        for _, (pixels,) in sandbox.run(worker.decoded, path=str(tmp_path / "a.dcm"), numbers=list(range(FRAMES))):
            assert pixels.shape == (ROWS, COLUMNS, 3)
            status = Path(f"/proc/{sandbox.pid}/status").read_text()
            seen += 1
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak is not None
        print(f"{syntax}: {int(peak[1]) / 1024:.0f} MiB")
        assert seen == FRAMES
        assert int(peak[1]) < 512 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("syntax", ["native", "rle", "jpeg"])
def test_a_worker_cleans_a_colour_clip_of_50_frames_within_512_mib(tmp_path: Path, syntax: str) -> None:
    write_clip(tmp_path / "a.dcm", syntax)
    with Sandbox(BUDGET, KEY, PRELOAD) as sandbox:
        run = sandbox.run(
            deid_worker.deidentify, path=str(tmp_path / "a.dcm"), target=str(tmp_path / "b.dcm"), center="made",
            words=[], options=Deidentify().model_dump(),
        )  # fmt: skip
        for answer, _ in run:
            status, report = Path(f"/proc/{sandbox.pid}/status").read_text(), answer
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak is not None
        print(f"{syntax}: {int(peak[1]) / 1024:.0f} MiB")
        assert report["frames"] == FRAMES
        assert int(peak[1]) < 512 * 1024
