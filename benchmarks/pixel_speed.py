"""Pixel cleaning against `deid`'s DicomCleaner: the same files in the same run, one core, no OCR on either side.

Both go from a file to a file: `deid` detects, cleans and saves; ours does the same with the header as it is, and once
more as `fetalflex deidentify` does, with the header cleaned. Each runs in an interpreter of its own (--deid-python,
where it is installed), warmed up by the same files; rounds alternate. Then what OCR adds, and the largest resident
memory of a worker that de-identifies a made clip of 50 frames of 672x1016 colour, native and RLE.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from fetalflex.deid import file as whole
from fetalflex.deid.keys import PseudonymKey
from fetalflex.deid.pixels import PixelCleaner
from fetalflex.dicom.entry import open_dicom
from fetalflex.dicom.sandbox import LEAN
from fetalflex.dicom.stream import open_writer
from fetalflex.params import Deidentify

KEY = PseudonymKey(b"of the benchmark of speed", "benchmark")
DEID = """
import contextlib, io, json, os, sys, tempfile, time
from deid.dicom import DicomCleaner

def clean(name, folder):
    cleaner = DicomCleaner(output_folder=folder)
    cleaner.detect(name)
    if cleaner.clean() is None:
        raise ValueError
    return cleaner.save_dicom()

seconds = {}
with tempfile.TemporaryDirectory() as folder:
    for turn in range(2):
        for name in json.load(sys.stdin) if turn == 0 else list(seconds):
            begin = time.process_time()
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    made = clean(name, folder)
            except Exception:
                continue
            seconds[name] = time.process_time() - begin
            os.remove(made)
print("RESULT" + json.dumps(seconds))
"""
OURS = """
import json, sys
from benchmarks.pixel_speed import time_ours
files = json.load(sys.stdin)
time_ours(files, **json.loads(sys.argv[1]))
print("RESULT" + json.dumps(time_ours(files, **json.loads(sys.argv[1]))))
"""


@dataclass(frozen=True)
class PixelsOnly(whole.Request):
    """Leaves the header as it is."""

    def clean(self, data: Dataset) -> list:
        """Change nothing but what the pixels' own statement needs."""
        data.DeidentificationMethodCodeSequence = []
        return []


def clean_file(path: Path, target: Path, ocr: bool) -> int:
    """Clean the pixels of a file, one frame at a time, and write them behind its own header; return the frames."""
    whole.make_cleaner = lambda header: PixelCleaner(header, ocr=ocr)
    # Uncompressed, as deid saves by default.
    whole.open_writer = lambda path, data, total, _: open_writer(path, data, total, "native")
    with open_dicom(path) as file:
        *_, report = whole._image(file, target, PixelsOnly(Deidentify(), "speed", KEY))
    return report.frames


def deidentify(path: Path, target: Path, ocr: bool) -> int:
    """Do all that `fetalflex deidentify` does to a file; return the frames."""
    whole.make_cleaner = lambda header: PixelCleaner(header, ocr=ocr)
    return whole.deidentify_file(path, target, Deidentify(), "speed", KEY).frames


def time_ours(files: list[str], ocr: bool = False, headers: bool = False) -> dict[str, float]:
    """Return processor seconds by file, from file to file; one that cannot be used is left out.

    `headers`: clean the header, too, as `fetalflex deidentify` does.
    """
    from fetalflex.errors import QuarantineError

    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.dcm"
        for name in files:
            target.unlink(missing_ok=True)
            begin = time.process_time()
            try:
                (deidentify if headers else clean_file)(Path(name), target, ocr)
            except QuarantineError:
                continue
            seconds[name] = time.process_time() - begin
    return seconds


def time_apart(command: list[str], files: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Return what an interpreter of its own says of the files."""
    done = subprocess.run(command, input=json.dumps(files), capture_output=True, text=True, check=True,
                          env=environment)  # fmt: skip
    return json.loads(done.stdout.split("RESULT")[1])


def make_clip(path: Path, frames: int, rle: bool) -> None:
    """Write a clip of 672x1016 colour with static text and speckle that changes."""
    from PIL import Image, ImageDraw, ImageFont
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_encoder
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    from benchmarks.ink_images import region_header

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


def peak_mib(path: Path) -> dict[str, float]:
    """Return the largest resident memory (MiB) of a worker that de-identifies a clip with OCR, and the seconds."""
    from fetalflex.deid import worker
    from fetalflex.deid.folder import BUDGET, PRELOAD
    from fetalflex.dicom.sandbox import Sandbox

    with tempfile.TemporaryDirectory() as folder, Sandbox(BUDGET, KEY, PRELOAD) as sandbox:
        begin = time.perf_counter()
        for _ in sandbox.run(worker.deidentify, path=str(path), target=f"{folder}/out.dcm", center="speed", words=[],
                             options=Deidentify().model_dump()):  # fmt: skip
            status = Path(f"/proc/{sandbox.pid}/status").read_text()
        seconds = time.perf_counter() - begin
    return {"peak MiB": round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1), "seconds": round(seconds, 2)}


def compare(files: list[str], python: str, rounds: int) -> dict[str, object]:
    """Return the seconds of both on the files that both clean, by turns, the best of the rounds each."""
    ours = dict(os.environ) | LEAN  # one thread, as in a worker; deid has the same
    plain = {k: v for k, v in ours.items() if k != "PYTHONPATH"}
    best: dict[str, dict[str, float]] = {"ours": {}, "ours with headers": {}, "deid": {}}
    for _ in range(rounds):
        for name, times in best.items():
            if name == "deid":
                new = time_apart([python, "-c", DEID], files, plain)
            else:
                options = json.dumps({"headers": name != "ours"})
                new = time_apart([sys.executable, "-c", OURS, options], files, ours)
            for file, value in new.items():
                times[file] = min(value, times.get(file, value))
    both = sorted(set.intersection(*(set(times) for times in best.values())))
    sums = {name: sum(times[file] for file in both) for name, times in best.items()}
    ratios = {f"deid to {name}": sums["deid"] / value for name, value in sums.items() if name != "deid"}
    each = {Path(file).name: [round(times[file], 4) for times in best.values()] for file in both}
    return {"count": len(both), "seconds": sums, "ratio": ratios, "files": each}


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
        if not stills:
            raise SystemExit("no us_dicom: FETALFLEX_DATA must name the folder of the public sets")
        if arguments.deid_python:
            report["stills"] = compare(stills, arguments.deid_python, arguments.rounds)
            report["clips"] = compare([*clips, str(native), str(rle)], arguments.deid_python, arguments.rounds)
        plain, read = time_ours(stills, ocr=False), time_ours(stills, ocr=True)
        report["what OCR adds to a still, processor seconds"] = float(
            np.mean([read[n] - plain[n] for n in plain if n in read] or [float("nan")])
        )
        for name, path in (("native", native), ("rle", rle)):
            report[f"worker, clip 50 x 672 x 1016 RGB {name}, with OCR"] = peak_mib(path)
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
