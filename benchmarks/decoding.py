"""Every ultrasound file of a folder: decoded and held against a second decoder, or quarantined with its reason.

`python -m benchmarks.decoding --more DIR`: us_dicom (FETALFLEX_DATA) and any further folders, whose zip files are
unpacked. First, middle and last frame are compared as displayed, channel by channel, with dcmtk's dcmj2pnm (after
dcmdjpls for JPEG-LS), which shares no code with ours but CharLS. What dcmtk refuses, and JPEG 2000, which it does not
decode, is held against GDCM (its JPEG code is its own; for JPEG 2000 and JPEG-LS both use OpenJPEG and CharLS).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels import convert_color_space, get_decoder

from fetalflex.dicom.sandbox import Sandbox
from fetalflex.errors import QuarantineError
from fetalflex.ingest import worker

JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.91")
# Lossy colour is stored at half resolution, and decoders interpolate it each in their own way; and YBR is rounded.
NEAR = 2.0  # mean difference in grey levels that is the same picture; a green one is tens of levels off


@dataclass(frozen=True)
class Outcome:
    """One file: how it ended, what it was compared with, and the largest and the mean difference in grey levels."""

    name: str
    syntax: str
    photometric: str
    frames: int
    end: str
    other: str = ""
    largest: int = -1
    mean: float = -1.0

    @property
    def right(self) -> bool | None:
        """Whether both decoders agree; None where there is no second one or nothing was decoded."""
        return None if self.mean < 0 else self.largest <= 1 or self.mean <= NEAR


def examine(path: Path, name: str, sandbox: Sandbox, folder: Path) -> Outcome:
    """Return a file's outcome."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        syntax, photometric = str(header.file_meta.TransferSyntaxUID), str(header.get("PhotometricInterpretation", ""))
    except Exception:  # a file that pydicom refuses still has to have a reason
        header, syntax, photometric = None, "", ""
    try:
        ((facts, _),) = sandbox.run(worker.inspect, path=str(path))
        total = int(facts.get("frames", 0))
        if not total:
            return Outcome(name, syntax, photometric, 0, f"annotation ({facts['kind']})")
        numbers = sorted({0, total // 2, total - 1})
        ours = {said["number"]: pixels for said, (pixels,) in
                sandbox.run(worker.decoded, path=str(path), numbers=numbers)}  # fmt: skip
    except QuarantineError as error:
        return Outcome(name, syntax, photometric, 0, error.reason.value)
    other, theirs = second(path, header, numbers, folder)
    if not theirs:
        return Outcome(name, syntax, photometric, total, "decoded", other)
    differences = [_difference(ours[n], theirs[n]) for n in numbers]
    largest, mean = max(d[0] for d in differences), max(d[1] for d in differences)
    return Outcome(name, syntax, photometric, total, "decoded", other, largest, mean)


def second(path: Path, header: Dataset | None, numbers: list[int], folder: Path) -> tuple[str, dict[int, np.ndarray]]:
    """Return a second decoder's name and its frames as displayed: dcmtk's, GDCM's where that refuses, or none."""
    syntax = "" if header is None else str(header.file_meta.TransferSyntaxUID)
    if header is not None and syntax not in JPEG_2000 and shutil.which("dcmj2pnm"):
        grey = str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
        window = ["+Wi", "1"] if grey and "WindowWidth" in header else []
        frames = _with_dcmtk(path, syntax, numbers, folder, window)
        if frames:
            return "dcmtk", frames
    try:
        return "GDCM", _with_gdcm(path, numbers)
    except Exception as error:  # a benchmark tells what the other decoder could not do
        return f"none ({type(error).__name__})", {}


def _with_dcmtk(
    path: Path, syntax: str, numbers: list[int], folder: Path, window: list[str]
) -> dict[int, np.ndarray] | None:
    if syntax in JPEG_LS:
        plain = folder / "plain.dcm"
        if subprocess.run(["dcmdjpls", path, plain], capture_output=True, check=False).returncode:
            return None
        path = plain
    frames = {}
    for number in numbers:
        out = folder / "frame.pnm"
        command = ["dcmj2pnm", "+op", *window, "+F", str(number + 1), path, out]
        if subprocess.run(command, capture_output=True, check=False).returncode or not out.is_file():
            return None
        frames[number] = np.asarray(Image.open(out))
        out.unlink()
    return frames


def _with_gdcm(path: Path, numbers: list[int]) -> dict[int, np.ndarray]:
    data = dcmread(path)
    syntax = data.file_meta.TransferSyntaxUID
    if data.PhotometricInterpretation == "PALETTE COLOR":
        return dict.fromkeys(numbers, _palette_with_gdcm(path))
    if not syntax.is_encapsulated:
        raise ValueError("native samples need no decoder")
    frames = {}
    for number in numbers:
        samples, about = get_decoder(syntax).as_array(data, index=number, raw=True, decoding_plugin="gdcm")
        full = str(about["photometric_interpretation"]).startswith("YBR_FULL")
        frames[number] = convert_color_space(samples, "YBR_FULL", "RGB") if full else samples
    return frames


def _palette_with_gdcm(path: Path) -> np.ndarray:
    """Return a still's RGB by GDCM's own look-up tables."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError("GDCM refuses it")
    apply = gdcm.ImageApplyLookupTable()
    apply.SetInput(reader.GetImage())
    if not apply.Apply():
        raise ValueError("GDCM applies no table")
    image = apply.GetOutput()
    columns, rows = image.GetDimension(0), image.GetDimension(1)
    raw = image.GetBuffer().encode("utf-8", "surrogateescape")
    wide = len(raw) // (rows * columns * 3)
    samples = np.frombuffer(raw, np.uint16 if wide == 2 else np.uint8).reshape(rows, columns, 3)
    return (samples >> 8).astype(np.uint8) if wide == 2 else samples


def _difference(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    if a.ndim != b.ndim:  # a palette of greys, shown as colour by one of the two
        a, b = (x if x.ndim == 3 else np.repeat(x[..., None], 3, axis=2) for x in (a, b))
    if a.shape != b.shape:
        return 255, 255.0
    spread = np.abs(a.astype(np.int16) - b)
    return int(spread.max()), float(spread.mean())


def collect(folders: list[Path], unpacked: Path) -> list[tuple[str, Path]]:
    """Return (name, path) of all files below the folders, members of zip files included."""
    found = []
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = f"{folder.name}/{path.relative_to(folder)}"
            if path.suffix == ".zip":
                target = unpacked / path.stem
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(target)  # a published package's own archive
                found += [(f"{name}/{p.name}", p) for p in sorted(target.rglob("*")) if p.is_file()]
            elif path.suffix.lower() in (".dcm", "") and path.name not in ("RECORD", "INSTALLER", "REQUESTED"):
                found.append((name, path))
    return found


def examine_all(folders: list[Path]) -> list[Outcome]:
    """Return the outcomes of all files of the folders."""
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="fetalflex-decoding-") as temporary, Sandbox() as sandbox:
        place = Path(temporary)
        for name, path in collect(folders, place / "zip"):
            outcomes.append(examine(path, name, sandbox, place))
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Return a Markdown table, one row a file that is ultrasound, and counts of the others."""
    rows = ["| file | transfer syntax | photometric | frames | outcome | second decoder | largest, mean difference |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    others = Counter(o.end for o in outcomes if o.end in ("not_dicom", "not_ultrasound"))
    for o in outcomes:
        if o.end in others:
            continue
        compared = "" if o.mean < 0 else f"{o.largest}, {o.mean:.3f}"
        syntax = o.syntax.removeprefix("1.2.840.10008.1.2").lstrip(".") or "implicit"
        cells = (o.name, syntax, o.photometric, str(o.frames or ""), o.end, o.other, compared)
        rows.append(f"| {' | '.join(cells)} |")
    rows.append("")
    rows.append("Not listed: " + (", ".join(f"{n} {reason}" for reason, n in sorted(others.items())) or "none") + ".")
    return "\n".join(rows)


def main() -> int:
    """Print the table; 1 where a second decoder shows another picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--more", type=Path, action="append", default=[], help="a further folder of DICOM files")
    folders = parser.parse_args().more
    real = os.environ.get("FETALFLEX_DATA")
    outcomes = examine_all(([Path(real) / "us_dicom"] if real else []) + folders)
    print(table(outcomes))
    return int(any(o.right is False for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
