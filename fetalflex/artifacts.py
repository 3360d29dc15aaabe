"""On-disk forms without tables: PNG bytes, JSON, hashes, and files that appear whole or not at all."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fetalflex.errors import ArtifactError

Grey = npt.NDArray[np.uint8]


def encode_png(pixels: Grey) -> bytes:
    """Return PNG bytes of an 8-bit grey image [H, W]; equal pixels give equal bytes. Raises: ArtifactError else."""
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or not pixels.size:
        raise ArtifactError(f"a PNG here is 8-bit grey [H, W]; found {pixels.dtype} {pixels.shape}")
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", compress_level=6)
    return out.getvalue()


def decode_png(data: bytes) -> Grey:
    """Return the grey image [H, W] of PNG bytes. Raises: ArtifactError if they are none."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
            return np.asarray(opened.convert("L"), dtype=np.uint8)
    # Pillow tells of damage inside the chunks by SyntaxError and ValueError, of absurd sizes by its own.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ArtifactError(f"PNG bytes are damaged ({error}); re-run the stage that wrote them") from error


def picture(pixels: Grey, name: str) -> dict[str, bytes | str]:
    """Return the `struct<bytes, path>` value of an image column."""
    return {"bytes": encode_png(pixels), "path": f"{name}.png"}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` only when the block succeeds.

    The folder is made where it is missing. A block that fails leaves nothing behind, and the old file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`, which takes its place only when the block succeeds.

    A block that fails leaves nothing behind, and the old folder as it was; a killed one a rest that the next removes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, whole or not at all. Raises: ArtifactError for NaN and infinity."""
    try:
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; expected finite numbers, and null where a value is missing") from error
    with atomic(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON. Raises: ArtifactError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error}); re-run the stage that writes it") from error


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in blocks. Raises: ArtifactError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); re-run the stage that writes it") from error


def tree_sha256(paths: Iterable[Path]) -> str:
    """Return one SHA-256 over the names and bytes of files and of all files under folders, whatever their order.

    Raises: ArtifactError where one of them cannot be read.
    """
    digest = hashlib.sha256()
    for root in sorted(paths):
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        for path in files:
            name = str(path.relative_to(root.parent))
            digest.update(f"{len(name)}:{name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()
