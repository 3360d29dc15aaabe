from pathlib import Path

import numpy as np
import pytest

from benchmarks.decoding import examine
from fetalflex.dicom.sandbox import Sandbox
from fetalflex.ingest import worker

# File -> frames, (rows, columns), mean grey level of each channel of the first frame as displayed.
EXPECTED = {
    "0020.DCM": (11, (430, 600), (11.2, 11.8, 13.5)),
    "840.113543.6.6.1.1.2.2415947926921624359.201235357587280.dcm": (10, (216, 240), (29.0, 29.4, 29.2)),
    "DIRW0007.dcm": (65, (456, 576), (27.5, 28.1, 29.3)),
    "ExplVR_BigEnd.dcm": (1, (60, 80), (251.0, 248.1, 15.7)),
    "GH364.dcm": (1, (768, 1024), (11.3,)),
    "GREYSCALE_IMAGE.dcm": (1, (768, 1024), (20.5,)),
    "IM00001.fragmented_no_bot_jpeg_baseline.50.dcm": (8, (240, 320), (53.3, 57.0, 58.7)),
    "JPEGLosslessP14SV1_3s_2f_u_08_08.dcm": (2, (768, 1024), (111.5, 111.5, 111.4)),
    "JPGLosslessP14SV1_1s_1f_8b.dcm": (1, (768, 1024), (17.4,)),
    "OBXXXX1A_2frame.dcm": (2, (600, 800), (9.8, 12.2, 15.3)),
    "OBXXXX1A_expb.dcm": (1, (600, 800), (9.8, 12.2, 15.3)),
    "OBXXXX1A_expb_2frame.dcm": (2, (600, 800), (9.8, 12.2, 15.3)),
    "OBXXXX1A_expb_b.dcm": (1, (600, 800), (9.8, 12.2, 15.3)),
    "OBXXXX1A_rle.dcm": (1, (600, 800), (9.8, 12.2, 15.3)),
    "OBXXXX1A_rle_2frame.dcm": (2, (600, 800), (9.8, 12.2, 15.3)),
    "US-PAL-8-10x-echo.dcm": (10, (430, 600), (14.7, 15.3, 15.8)),
    "US-PAL-8-10x-echo_b.dcm": (10, (430, 600), (14.7, 15.3, 15.8)),
    "US-RGB-8-epicard.dcm": (1, (480, 640), (36.1, 28.2, 15.4)),
    "US-YBR_FULL_422-EVRLE.dcm": (1, (555, 800), (15.5, 15.7, 15.8)),
    "US1_J2KR.dcm": (1, (480, 640), (40.4, 34.5, 28.7)),
    "US1_RLE.dcm": (1, (480, 640), (40.4, 34.5, 28.7)),
    "US1_UNCI.dcm": (1, (480, 640), (40.4, 34.6, 29.0)),
    "YBR_422.dcm": (1, (555, 800), (15.5, 15.7, 15.8)),
    "color-pl.dcm": (1, (120, 256), (40.8, 38.5, 48.7)),
    "color-px.dcm": (1, (120, 256), (40.8, 38.5, 48.7)),
    "examples_palette.dcm": (1, (350, 800), (15.9, 20.1, 25.4)),
    "examples_ybr_color.dcm": (30, (240, 320), (9.2, 9.5, 9.7)),
    "gdcm-US-ALOKA-16_big.dcm": (1, (480, 640), (28.5, 29.6, 31.2)),
    "gdcm-US-RGB-8-esopecho.dcm": (1, (120, 256), (40.8, 38.5, 48.7)),
    "no-pixel-spacing.dcm": (1, (600, 800), (4.5, 5.7, 7.3)),
}


@pytest.mark.slow
def test_every_real_file_is_decoded_right_and_a_second_decoder_agrees(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "us_dicom"
    found = {p.name for p in folder.iterdir() if p.suffix.lower() == ".dcm"}
    assert found == set(EXPECTED)
    refused, differing = {}, {}
    with Sandbox() as sandbox:
        for name, (frames, shape, means) in EXPECTED.items():
            outcome = examine(folder / name, name, sandbox, tmp_path)
            if (outcome.end, outcome.frames) != ("decoded", frames):
                refused[name] = outcome
                continue
            if outcome.right is False:
                differing[name] = outcome
            ((_, (pixels,)),) = sandbox.run(worker.decoded, path=str(folder / name), numbers=[0])
            assert pixels.shape[:2] == shape, name
            # Colour is right: no channel stands out that should not (a YBR image taken for RGB is green).
            np.testing.assert_allclose(
                pixels.reshape(pixels.shape[0] * pixels.shape[1], -1).mean(axis=0), means, atol=0.5
            )
    assert not refused
    assert not differing
