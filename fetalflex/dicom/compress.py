"""`python -m fetalflex.dicom.compress`: files named on standard input, one a line, to JPEG Lossless in place.

A process of its own, because GDCM is C++: what crashes here takes nothing else with it.
"""

import os
import sys
from pathlib import Path

import gdcm


def compress(path: Path) -> bool:
    """Compress one file in place (Process 14, selection value 1). False where GDCM refuses it."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        return False
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    if not change.Change():
        return False
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    writer.SetFileName(str(partial))
    try:
        if not writer.Write():
            return False
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return True


def main() -> int:
    """Compress every file of the list; 1 and the file's number at the first that is refused."""
    for number, line in enumerate(sys.stdin.read().splitlines(), 1):
        if not compress(Path(line)):
            sys.stderr.write(f"file {number} of the list is no uncompressed DICOM image with an even number of bytes\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
