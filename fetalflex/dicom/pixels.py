"""From decoded samples to 8-bit grey levels: palettes, colour, inversion, rescale and window.

Source: DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation), C.7.6.3.1.5 (palettes), C.11.1.1.2 (rescale),
C.11.2.1.2.1 (linear window).
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, convert_color_space

from fetalflex.errors import QuarantineError, Reason

Grey = npt.NDArray[np.uint8]
COLOUR_SPACES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420", "PALETTE COLOR")
SATURATED = 90  # grey levels between the strongest and the weakest channel, more than a tinted grey map has


def to_display(samples: npt.NDArray[Any], header: Dataset, photometric: str) -> Grey:
    """Return what a screen shows: uint8 [H, W], or [H, W, 3] RGB for colour images.

    `samples`: [H, W] or [H, W, 3]; `photometric`: what they are after decoding (a decoder may have changed it).
    Raises: QuarantineError decode_failed for an unknown photometric interpretation or samples that do not fit it.
    """
    if photometric in COLOUR_SPACES:
        return _to_rgb(samples, header, photometric)
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples.ndim != 2:
        raise QuarantineError(Reason.DECODE_FAILED, f"{samples.ndim}-dimensional samples do not fit their photometry")
    grey = _monochrome(samples, header)
    return 255 - grey if photometric == "MONOCHROME1" else grey


def to_eight_bits(samples: npt.NDArray[Any], header: Dataset, photometric: str) -> Grey:
    """Return what a decoded frame shows, to be stored again: uint8 [H, W, 3] RGB, or [H, W] grey.

    8-bit grey is returned as it is stored (window and inversion are the viewer's); deeper grey is windowed to 8 bits.
    Raises: QuarantineError decode_failed, as `to_display` does.
    """
    if photometric in COLOUR_SPACES:
        return _to_rgb(samples, header, photometric)
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or samples.ndim != 2:
        raise QuarantineError(Reason.DECODE_FAILED, f"{samples.ndim}-dimensional samples do not fit their photometry")
    return samples if samples.dtype == np.uint8 else _monochrome(samples, header)


def to_luma(pixels: Grey) -> Grey:
    """Return grey levels [H, W] of displayed pixels. Source: ITU-R BT.601 luma, as in DICOM's own YBR_FULL."""
    if pixels.ndim == 2:
        return pixels
    luma = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(luma).astype(np.uint8)


def find_colour(pixels: Grey) -> npt.NDArray[np.bool_] | None:
    """Return where displayed pixels are coloured beyond a tint, bool [H, W]; None for a grey image."""
    if pixels.ndim == 2:
        return None
    coloured: npt.NDArray[np.bool_] = pixels.max(axis=-1).astype(np.int16) - pixels.min(axis=-1) > SATURATED
    return coloured


def _to_rgb(samples: npt.NDArray[Any], header: Dataset, photometric: str) -> Grey:
    if photometric == "PALETTE COLOR":
        return _through_palette(samples, header)
    if samples.ndim == 3 and photometric in ("YBR_FULL", "YBR_FULL_422"):
        samples = convert_color_space(samples, "YBR_FULL", "RGB")
    if samples.ndim != 3 or samples.shape[-1] not in (3, 4):
        raise QuarantineError(Reason.DECODE_FAILED, f"{samples.ndim}-dimensional samples where colour is announced")
    return _eight_bit_colour(samples)


def _through_palette(samples: npt.NDArray[Any], header: Dataset) -> Grey:
    """Return the colours [H, W, 3] of palette indices [H, W]: each index is looked up in the file's palette once."""
    if samples.ndim != 2:
        raise QuarantineError(Reason.DECODE_FAILED, f"{samples.ndim}-dimensional samples are no indices of a palette")
    if samples.dtype.kind != "u":
        return _eight_bit_colour(apply_color_lut(samples, header))
    count = 256 if samples.dtype == np.uint8 else int(samples.max(initial=0)) + 1
    table = _eight_bit_colour(apply_color_lut(np.arange(count, dtype=samples.dtype)[None], header))[0]
    if samples.dtype == np.uint8:
        return np.asarray(cv2.merge([cv2.LUT(samples, channel) for channel in table.T.copy()]), dtype=np.uint8)
    return table[samples]


def _eight_bit_colour(rgb: npt.NDArray[Any]) -> Grey:
    rgb = rgb[..., :3]  # a palette may have a fourth channel
    if rgb.dtype.itemsize == 2:
        # Palettes and samples of 16 bits fill their range; a few makers store 8-bit entries in 16 bits.
        rgb = rgb >> 8 if int(rgb.max()) > 255 else rgb
    return rgb.astype(np.uint8)


def _monochrome(samples: npt.NDArray[Any], header: Dataset) -> Grey:
    bits = int(header.get("BitsStored", 8))
    signed = bool(header.get("PixelRepresentation", 0))
    slope, intercept = _number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0)
    values = samples.astype(np.float32) * slope + intercept
    centre, width = _number(header, "WindowCenter", np.nan), _number(header, "WindowWidth", np.nan)
    if np.isfinite(centre) and width > 1:
        # PS3.3 C.11.2.1.2.1, equation for y in [0, 255].
        levels = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    else:
        low = -(2.0 ** (bits - 1)) if signed else 0.0
        low, high = low * slope + intercept, (low + 2.0**bits - 1) * slope + intercept
        levels = (values - low) / max(high - low, 1e-6) * 255
    grey: Grey = np.rint(levels.clip(0, 255)).astype(np.uint8)
    return grey


def _number(header: Dataset, keyword: str, default: float) -> float:
    """Return a number, or the first of several (the first window is the default view)."""
    value = header.get(keyword)
    if value is None or value == "":
        return default
    try:
        return float(value if isinstance(value, int | float | str) else value[0])
    except (TypeError, ValueError, IndexError):
        return default
