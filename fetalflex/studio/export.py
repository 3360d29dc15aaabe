"""What a user takes along: PNG, layout, DICOM with its segmentation, and the command line that makes the same image."""

import io
import json
import shlex
import tempfile
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from fetalflex import __version__
from fetalflex.anatomy.layout import to_avoid
from fetalflex.artifacts import encode_png
from fetalflex.studio.sitting import Made
from fetalflex.synthesis.dicom_out import Synthetic, write_synthetic

Kind = Literal["image.png", "layout.json", "dicom.zip", "all.zip", "command.txt"]
KINDS: tuple[Kind, ...] = ("image.png", "layout.json", "dicom.zip", "all.zip", "command.txt")
_TYPES = {"png": "image/png", "json": "application/json", "zip": "application/zip", "txt": "text/plain; charset=utf-8"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest: equal content is equal bytes


def media_type(kind: Kind) -> str:
    """Return the media type of an export."""
    return _TYPES[kind.rsplit(".", 1)[1]]


def export(made: Made, kind: Kind, model_sha256: str, model_name: str | None) -> bytes:
    """Return the bytes of one export. `model_name`: what `--model` is given, None for the workspace's own model."""
    if kind == "image.png":
        return encode_png(made.image)
    if kind == "layout.json":
        return (made.desk.asked.to_json() + "\n").encode()
    if kind == "command.txt":
        return (command(made, model_name) + "\n").encode()
    if kind == "dicom.zip":
        return _zipped(_dicom(made, model_sha256))
    return _zipped(_all(made, model_sha256, model_name))


def command(made: Made, model_name: str | None) -> str:
    """Return the command that makes this very image from the files of the export, bit for bit."""
    words = ["fetalflex", "generate" if made.kind == "generate" else "edit"]
    if made.kind == "generate":
        words += ["--layout", "layout.json", "--count", "1"]
        if to_avoid(made.desk.start, made.desk.asked) is not None:
            words += ["--unlike", "before.json"]
    else:
        words += ["before.png", "--layout", "before.json", "--to", "layout.json"]
    words += ["--seed", str(made.seed), "--alone"]
    if model_name is not None:
        words += ["--model", model_name]
    return shlex.join([*words, "--out", "out"])


def _all(made: Made, model_sha256: str, model_name: str | None) -> dict[str, bytes]:
    before = made.desk.start if made.kind == "generate" else made.desk.shown
    files = {
        "image.png": encode_png(made.image),
        "layout.json": (made.desk.asked.to_json() + "\n").encode(),
        "command.txt": (command(made, model_name) + "\n").encode(),
        "about.json": (json.dumps(_about(made, model_sha256), indent=1, sort_keys=True) + "\n").encode(),
    }
    if before is not None:
        files["before.json"] = (before.to_json() + "\n").encode()
    if made.before is not None:
        files["before.png"] = encode_png(made.before)
    return files | _dicom(made, model_sha256)


def _about(made: Made, model_sha256: str) -> dict[str, object]:
    return {
        "kind": made.kind, "seed": made.seed, "model": model_sha256, "version": __version__,
        "anomalies": [list(a) for a in made.desk.anomalies], "origin": made.desk.origin,
        "evaluations": made.result.evaluations,
        "made_by_command": "out/images/000000.png" if made.kind == "generate" else "out/abnormal.png",
    }  # fmt: skip


def _dicom(made: Made, model_sha256: str) -> dict[str, bytes]:
    """Return the DICOM files by name. A counterfactual has the model's square canvas, where its layout lies."""
    layout = made.desk.asked
    # As 'fetalflex generate --format dicom' names it: the same image is the same object.
    names: tuple[str, ...] = (str(made.seed), model_sha256, layout.plane, layout.to_json())
    if made.kind == "counterfactual":
        names = (*names[:3], "edit", str(made.desk.picture.sha256 if made.desk.picture else ""), names[3])
    pixels = np.ascontiguousarray(made.result.image)
    of_person = made.desk.private and made.kind == "counterfactual"
    with tempfile.TemporaryDirectory(prefix="fetalflex-export-") as folder:
        written = write_synthetic(Path(folder), "image", Synthetic(pixels, layout, 0, names, edited=of_person))
        return {path.name: path.read_bytes() for path in written}


def _zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()
