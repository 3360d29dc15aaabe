"""An image from outside: a PNG or JPEG, or a DICOM file read in the sandbox, as grey levels and where it lies."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from fetalflex.dataset import canvas_box, to_canvas
from fetalflex.errors import QuarantineError, SourceError

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
SMALLEST_SIDE, MOST_PIXELS = 32, 40_000_000
_MODES = ("L", "LA", "P", "RGB", "RGBA", "1")
_MAGIC = b"DICM"


@dataclass(frozen=True, eq=False)
class Picture:
    """Grey levels uint8 [H, W] and mm per pixel, None where unknown."""

    pixels: Pixels
    spacing_mm: float | None = None

    @cached_property
    def sha256(self) -> str:
        """A hash of size and grey levels."""
        height, width = self.pixels.shape
        return hashlib.sha256(f"{height}x{width}:".encode() + self.pixels.tobytes()).hexdigest()

    def canvas(self, size: int) -> Pixels:
        """Return the image on the model's square canvas."""
        return to_canvas(self.pixels, size)

    def extent_mm(self) -> float | None:
        """Return the side of the canvas in mm."""
        return None if self.spacing_mm is None else self.spacing_mm * max(self.pixels.shape)

    def paste(self, before: Pixels, after: Pixels, region: Mask) -> tuple[Pixels, Mask]:
        """Return this image with the change from `before` to `after`, and where it may differ, both in its own size.

        before, after: uint8 [S, S] and region: bool [S, S] on the model's canvas. The *change* is enlarged and added,
        not the image: what the model does not resolve (speckle) stays the reference's, and fades in within a pixel of
        the model's. Outside of the region all pixels stay as they are.
        """
        height, width = self.pixels.shape
        h, w, top, left = canvas_box(height, width, before.shape[0])
        inner = slice(top, top + h), slice(left, left + w)
        change = np.where(region, after.astype(np.float32) - before.astype(np.float32), 0)[inner]
        grown = np.asarray(Image.fromarray(change).resize((width, height), Image.Resampling.BICUBIC))
        mask = Image.fromarray(region[inner].astype(np.float32))
        where = np.asarray(mask.resize((width, height), Image.Resampling.NEAREST)) > 0
        # One half at the region's edge: scaled to fade in from 0 there, or the edge's change would be a step.
        weight = np.clip(2 * np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR)) - 1, 0, 1)
        moved = np.clip(np.rint(self.pixels + weight * grown), 0, 255).astype(np.uint8)
        return np.where(where, moved, self.pixels), where


def read_picture(path: Path, name: str = "") -> Picture:
    """Read a PNG, JPEG or DICOM file. DICOM: the first frame's ultrasound, texts blanked, in a sandbox.

    `name`: what errors call it, else its path.
    Raises: SourceError where it is missing, none of these, or too small or large.
    """
    called = name or str(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError as error:
        raise SourceError(f"{called}: cannot be read ({error.strerror}); expected a PNG, JPEG or DICOM file") from error
    picture = _read_dicom(path, called) if head[128:132] == _MAGIC else _read_image(path, called)
    height, width = picture.pixels.shape
    if min(height, width) < SMALLEST_SIDE:
        raise SourceError(f"{called}: is {width} x {height} pixels; expected at least {SMALLEST_SIDE} on each side")
    return picture


def _read_image(path: Path, called: str) -> Picture:
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise SourceError(
                    f"{called}: is {opened.width} x {opened.height} pixels; expected {MOST_PIXELS} at most"
                )
            if opened.mode not in _MODES:
                raise SourceError(f"{called}: has pixels of the kind {opened.mode}; expected 8-bit grey or colour")
            return Picture(np.asarray(ImageOps.exif_transpose(opened).convert("L"), np.uint8))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).replace(str(path), called)
        raise SourceError(f"{called}: cannot be read ({reason}); expected a PNG, JPEG or DICOM file") from error


def _read_dicom(path: Path, called: str) -> Picture:
    from fetalflex.dicom.sandbox import Sandbox
    from fetalflex.synthesis import worker

    try:
        with Sandbox(preload=("fetalflex.synthesis.worker", "fetalflex.deid.pixels:warm_up")) as sandbox:
            *_, (said, (pixels,)) = sandbox.run(worker.picture, path=str(path.absolute()))
    except QuarantineError as error:
        raise SourceError(f"{called}: cannot be used ({error}); docs/quarantine.md says what that means") from error
    return Picture(pixels, said["spacing_mm"])
