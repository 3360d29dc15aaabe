"""From decoded samples to 8-bit grey levels: palettes, colour, inversion, rescale and window.

Source: DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation), C.7.6.3.1.5 (palettes), C.11.1.1.2 (rescale),
C.11.2.1.2.1 (linear window).
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, convert_color_space

from fetalflex.errors import QuarantineError, Reason

Grey = npt.NDArray[np.uint8]
COLOUR_SPACES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420", "PALETTE COLOR")
PALETTE = tuple(
    f"{what}{colour}PaletteColorLookupTable{part}"
    for what, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    for colour in ("Red", "Green", "Blue")
)
MOST_TABLES = 8
SATURATED = 90  # grey levels between the strongest and the weakest channel, more than a tinted grey map has
_CHROMA = np.arange(256, dtype=np.float32) - 128
RED_OF_RED, BLUE_OF_BLUE = 1.402 * _CHROMA, 1.772 * _CHROMA
GREEN_OF_RED, GREEN_OF_BLUE = -0.299 / 0.587 * RED_OF_RED, -0.114 / 0.587 * BLUE_OF_BLUE

_TABLES: OrderedDict[bytes, Grey] = OrderedDict()


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
        samples = _from_ybr(samples)
    if samples.ndim != 3 or samples.shape[-1] not in (3, 4):
        raise QuarantineError(Reason.DECODE_FAILED, f"{samples.ndim}-dimensional samples where colour is announced")
    return _eight_bit_colour(samples)


def _from_ybr(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return RGB [H, W, 3] of YBR_FULL samples, rounded to the nearest level. Source: DICOM PS3.3 C.7.6.3.1.2."""
    if samples.dtype != np.uint8 or samples.shape[-1] != 3:
        return np.asarray(convert_color_space(samples, "YBR_FULL", "RGB"))
    # The equation's three products, looked up: a third of the time of a product of matrices.
    luma, blue, red = cv2.split(samples)
    green = cv2.add(cv2.LUT(blue, GREEN_OF_BLUE), cv2.LUT(red, GREEN_OF_RED))
    parts = (cv2.LUT(red, RED_OF_RED), green, cv2.LUT(blue, BLUE_OF_BLUE))
    return np.asarray(cv2.merge([cv2.add(luma, part, dtype=cv2.CV_8U) for part in parts]), dtype=np.uint8)


def _through_palette(samples: npt.NDArray[Any], header: Dataset) -> Grey:
    """Return the colours [H, W, 3] of palette indices [H, W]: each index is looked up in the file's palette once."""
    if samples.ndim != 2:
        raise QuarantineError(Reason.DECODE_FAILED, f"{samples.ndim}-dimensional samples are no indices of a palette")
    if samples.dtype.kind != "u":
        return _eight_bit_colour(apply_color_lut(samples, header))
    table = _palette_table(header, samples.dtype.itemsize)
    if samples.dtype == np.uint8:
        return np.asarray(cv2.merge([cv2.LUT(samples, channel) for channel in table.T.copy()]), dtype=np.uint8)
    return table[samples]


def _palette_table(header: Dataset, index_bytes: int) -> Grey:
    """Return the colours [256 or 65536, 3] of all indices; those of the last palettes are remembered.

    Devices have few palettes and every frame needs one; a segmented one takes longer to expand than a frame to decode.
    """
    parts = [header[name].value for name in PALETTE if name in header]
    name = sha256(repr((index_bytes, [p if isinstance(p, bytes) else [int(v) for v in p] for p in parts])).encode())
    table = _TABLES.get(name.digest())
    if table is None:
        indices = np.arange(256**index_bytes, dtype=f"u{index_bytes}")
        table = _eight_bit_colour(apply_color_lut(indices[None], header))[0]
        _TABLES[name.digest()] = table
        while len(_TABLES) > MOST_TABLES:
            _TABLES.popitem(last=False)
    return table


def _eight_bit_colour(rgb: npt.NDArray[Any]) -> Grey:
    rgb = rgb[..., :3]  # a palette may have a fourth channel
    if rgb.dtype.itemsize == 2:
        # Palettes and samples of 16 bits fill their range; a few makers store 8-bit entries in 16 bits.
        rgb = rgb >> 8 if int(rgb.max()) > 255 else rgb
    return rgb.astype(np.uint8)


def _monochrome(samples: npt.NDArray[Any], header: Dataset) -> Grey:
    # Fewer levels than pixels: each is worked out once.
    if samples.dtype == np.uint8:
        return np.asarray(cv2.LUT(samples, _to_grey(np.arange(256, dtype=np.uint8), header)), dtype=np.uint8)
    if samples.dtype.itemsize == 2 and samples.size > 2**16:
        lowest, highest = int(samples.min()), int(samples.max())
        return _to_grey(np.arange(lowest, highest + 1).astype(samples.dtype), header)[samples.astype(int) - lowest]
    return _to_grey(samples, header)


def _to_grey(samples: npt.NDArray[Any], header: Dataset) -> Grey:
    """Return grey levels of samples of any shape: rescaled, then windowed, or else their whole range."""
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
