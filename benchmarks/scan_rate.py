"""Files per second of the scan of a center's folder, at growing numbers of small files: it must stay flat.

`python -m benchmarks.scan_rate`: tiny ultrasound files in a temporary folder, the same total work per file at every
size; each size is scanned twice, alternating, and the faster run counts (the machine is shared).
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom import dcmread

from fetalflex.deid.keys import DEMO_KEY, PseudonymKey
from fetalflex.dicom.write import UltrasoundImage, derive_uid, write_ultrasound
from fetalflex.ingest.inventory import scan

KEY = PseudonymKey(DEMO_KEY, "the benchmark")
MARK = b"1.2.3.4.5.6.7.8.9.000000"


def write_files(folder: Path, count: int) -> None:
    """Write `count` files that differ in their UID alone, 200 in a folder."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    uids = (MARK.decode(), derive_uid("study"), derive_uid("series"))
    write_ultrasound(folder / "first.dcm", UltrasoundImage(pixels, *uids, patient_id="P"))
    dcmread(folder / "first.dcm")
    raw = (folder / "first.dcm").read_bytes()
    (folder / "first.dcm").unlink()
    for number in range(count):
        path = folder / f"{number // 200:04d}" / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(raw.replace(MARK, b"1.2.3.4.5.6.7.8.9.1%05d" % number))


def main() -> None:
    """Print files per second at each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 20000])
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()
    best: dict[int, float] = {}
    processor: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="fetalflex-scan-") as temporary:
        for size in arguments.sizes:
            (Path(temporary) / str(size)).mkdir()
            write_files(Path(temporary) / str(size), size)
        for _ in range(arguments.runs):
            for size in arguments.sizes:
                began, before = time.monotonic(), _processor_s()
                found = scan(Path(temporary) / str(size), KEY)
                took, used = time.monotonic() - began, _processor_s() - before
                if len(found.images) != size:
                    raise SystemExit(f"{len(found.images)} of {size} files were read")
                best[size] = max(best.get(size, 0), size / took)
                processor[size] = min(processor.get(size, 1e9), 1000 * used / size)
    for size in arguments.sizes:
        print(f"{size} files: {best[size]:.0f} files/s, {processor[size]:.2f} ms of processor time a file")


def _processor_s() -> float:
    """Return processor seconds of this process and its ended workers."""
    import resource

    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    main()
