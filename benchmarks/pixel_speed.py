"""Pixel cleaning against `deid`'s DicomCleaner: the same files in the same run, one core, no OCR on either side.

Both read, decode and blank in memory, and write nothing. `deid` runs in an interpreter of its own (--deid-python, where
it is installed); rounds alternate. Then what OCR adds, and the largest resident memory of a process that cleans a made
clip of 50 frames of 672x1016 colour, native and RLE.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DEID = """
import io, json, logging, sys, time, contextlib
from deid.dicom import DicomCleaner
seconds = {}
for name in json.load(sys.stdin):
    begin = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cleaner = DicomCleaner(output_folder="/nonexistent")
            cleaner.detect(name)
            if cleaner.clean() is None:
                continue
    except Exception:
        continue
    seconds[name] = time.process_time() - begin
print("RESULT" + json.dumps(seconds))
"""


def clean_file(path: Path, ocr: bool) -> int:
    """Clean all frames of a file in memory, one at a time; return how many there were."""
    from fetalflex.deid.pixels import SAMPLES, PixelCleaner
    from fetalflex.dicom.entry import open_dicom
    from fetalflex.dicom.read import FrameReader, frame_numbers

    with open_dicom(path) as file:
        reader = FrameReader(file)
        cleaner = PixelCleaner(reader.header, ocr=ocr)
        if reader.total > 1:
            cleaner.prepare(reader.frame(n).pixels for n in frame_numbers(reader.total, SAMPLES))
        for number in range(reader.total):
            cleaner.clean(reader.frame(number).pixels)
        return reader.total


def time_ours(files: list[str], ocr: bool) -> dict[str, float]:
    """Return processor seconds by file; a file that cannot be used is left out."""
    from fetalflex.errors import QuarantineError

    seconds = {}
    for name in files:
        begin = time.process_time()
        try:
            clean_file(Path(name), ocr)
        except QuarantineError:
            continue
        seconds[name] = time.process_time() - begin
    return seconds


def time_deid(python: str, files: list[str]) -> dict[str, float]:
    """Return the same of `deid`, in its own interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, "-c", DEID], input=json.dumps(files), capture_output=True, text=True,
                          check=True, env=environment)  # fmt: skip
    return json.loads(done.stdout.split("RESULT")[1])


def make_clip(path: Path, frames: int, rle: bool) -> None:
    """Write a clip of 672x1016 colour with static text and speckle that changes."""
    from PIL import Image, ImageDraw, ImageFont
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_encoder
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    from benchmarks.ink import region_header

    rng = np.random.default_rng(0)
    images = []
    for _ in range(frames):
        grey = np.zeros((672, 1016), np.uint8)
        speckle = Image.fromarray(rng.rayleigh(40, (270, 400)).clip(0, 255).astype(np.uint8))
        grey[60:600, 108:908] = np.asarray(speckle.resize((800, 540), Image.Resampling.BILINEAR))
        canvas = Image.fromarray(np.repeat(grey[..., None], 3, axis=-1))
        draw = ImageDraw.Draw(canvas)
        for place in ((10, 10), (300, 300)):
            draw.text(place, "HAUGLAND Ingrid 22.11.1975", fill=(255, 230, 40), font=ImageFont.load_default(24))
        images.append(np.asarray(canvas))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = RLELossless if rle else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "2.25.1"
    data = FileDataset(str(path), region_header((672, 1016), (108, 60, 908, 600)), file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = meta.MediaStorageSOPClassUID, "2.25.1", "US"
    data.Manufacturer, data.ManufacturerModelName = "GE Healthcare", "LOGIQE9"
    data.NumberOfFrames, data.SamplesPerPixel, data.PhotometricInterpretation = frames, 3, "RGB"
    data.PlanarConfiguration, data.BitsAllocated, data.BitsStored, data.HighBit = 0, 8, 8, 7
    data.PixelRepresentation = 0
    if rle:
        encoder = get_encoder(RLELossless)
        shape = {"rows": 672, "columns": 1016, "samples_per_pixel": 3, "photometric_interpretation": "RGB",
                 "bits_allocated": 8, "bits_stored": 8, "pixel_representation": 0, "number_of_frames": 1,
                 "planar_configuration": 0}  # fmt: skip
        data.PixelData = encapsulate([encoder.encode(image.tobytes(), **shape) for image in images])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
    else:
        data.PixelData = b"".join(image.tobytes() for image in images)
        data["PixelData"].VR = "OB"
    data.save_as(path, enforce_file_format=True)


def peak_mib(path: Path, ocr: bool) -> dict[str, float]:
    """Return the largest resident memory (MiB) and the seconds of a process of its own that cleans a file."""
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.pixel_speed import clean_file; "
        "b = time.process_time(); n = clean_file(Path(sys.argv[1]), sys.argv[2] == '1'); "
        "s = Path('/proc/self/status').read_text().split('VmHWM:')[1]; "  # ru_maxrss would count the parent's, too
        "print(int(s.split()[0]) / 1024, time.process_time() - b, n)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), str(int(ocr))], capture_output=True, text=True,
                          check=True)  # fmt: skip
    peak, seconds, frames = (float(v) for v in done.stdout.split())
    return {"peak MiB": round(peak, 1), "processor seconds": round(seconds, 2), "frames": frames}


def compare(files: list[str], python: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return the rates of both on the files that both clean, the best of the rounds each."""
    ours: dict[str, float] = {}
    theirs: dict[str, float] = {}
    for _ in range(rounds):
        for best, new in ((ours, time_ours(files, ocr=False)), (theirs, time_deid(python, files))):
            for name, value in new.items():
                best[name] = min(value, best.get(name, value))
    both = sorted(set(ours) & set(theirs))
    rates = {"files": len(both), "ours seconds": sum(ours[n] for n in both),
             "deid seconds": sum(theirs[n] for n in both)}  # fmt: skip
    each = {Path(n).name: [round(ours[n], 4), round(theirs[n], 4)] for n in both}
    return {"all": rates | {"ratio": rates["deid seconds"] / rates["ours seconds"]}, "files": each}


def main() -> None:
    """Run and print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deid-python", help="an interpreter with deid; without it only ours is measured")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        native, rle = Path(folder) / "native.dcm", Path(folder) / "rle.dcm"
        make_clip(native, 50, rle=False)
        make_clip(rle, 50, rle=True)
        stills, clips = split_files(os.environ.get("FETALFLEX_DATA"))
        if arguments.deid_python:
            report["stills"] = compare(stills, arguments.deid_python, arguments.rounds)
            report["clips"] = compare([*clips, str(native), str(rle)], arguments.deid_python, arguments.rounds)
        plain, read = time_ours(stills, ocr=False), time_ours(stills, ocr=True)
        report["what OCR adds to a still, processor seconds"] = float(
            np.mean([read[n] - plain[n] for n in plain if n in read] or [float("nan")])
        )
        for name, path in (("native", native), ("rle", rle)):
            for ocr in (False, True):
                report[f"clip 50 x 672 x 1016 RGB {name}, OCR {ocr}"] = peak_mib(path, ocr)
    print(json.dumps(report, indent=1))


def split_files(data: str | None) -> tuple[list[str], list[str]]:
    """Return the stills and the clips of `us_dicom`."""
    if not data:
        return [], []
    from pydicom import dcmread

    stills, clips = [], []
    for path in sorted((Path(data) / "us_dicom").glob("*.[dD]*")):
        frames = int(dcmread(path, stop_before_pixels=True).get("NumberOfFrames") or 1)
        (clips if frames > 1 else stills).append(str(path))
    return stills, clips


if __name__ == "__main__":
    main()
