"""What de-identification asks of a raw file, in a worker of `fetalflex.dicom.sandbox`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fetalflex.deid.file import Request, deidentify_steps
from fetalflex.deid.keys import PseudonymKey
from fetalflex.dicom.sandbox import Answer
from fetalflex.params import Deidentify


def deidentify(
    path: str, target: str, options: dict[str, Any], center: str, words: list[str], key: PseudonymKey
) -> Iterator[Answer]:
    """Write the de-identified form of one file; yield its report after each frame, the last one whole.

    Raises: QuarantineError with the reason why the file cannot be used.
    """
    request = Request(Deidentify.model_validate(options), center, key, words)
    for report in deidentify_steps(Path(path), Path(target), request):
        yield report.as_dict(), []
