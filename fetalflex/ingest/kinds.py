"""What a frame shows: tissue in two dimensions, or something that is set aside (flow, renders, traces, graphs).

First what the header says, then what the colours say: a grey map may be tinted in any colour and calipers may be
coloured, so neither may be taken for flow, while power Doppler may have the very colour of a tint.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from scipy import ndimage

from fetalflex.errors import QuarantineError, Reason

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# DICOM PS3.3 C.8.5.6.1.1: value 4 of Image Type, a sum of these, written in hexadecimal.
IMAGE_2D, M_MODE, CW_DOPPLER, PW_DOPPLER = 0x1, 0x2, 0x4, 0x8
COLOUR_FLOW, COLOUR_M_MODE, RENDERING, POWER = 0x10, 0x20, 0x40, 0x100
# DICOM PS3.3 C.8.5.5.1.1 (region spatial format) and C.8.5.5.1.2 (region data type).
TWO_D, OTHER_FORMATS = 1, {2: "M-mode", 3: "spectral Doppler", 4: "a wave form", 5: "graphics"}
TISSUE, FLOW_DATA = 1, 2

BRIGHT = 48  # of the strongest channel: darker pixels have no reliable colour
LEVELS = 16  # steps of brightness in which the grey map's own tint is looked up
OFF_MAP = 40  # grey levels between a pixel's colour and the tint of its brightness, beyond compression's noise
ON_MAP = 8  # grey levels that a level's usual tint may be off the map's curve
VIVID, WARM = 0.6, (10, 65)  # saturation that only a warm (amber, sepia) map has; hue in degrees
FLOW_SHARE, FLOW_SHARE_ANNOUNCED = 0.005, 0.001  # of the region, in blobs; the latter where the header speaks of flow
SEPIA = 0.25  # median saturation of bright pixels
TEXTURE_SIDE, TEXTURE = 256, 2.5  # where fine texture is measured: pixels of the longer side, of the window
SMOOTH = 0.025  # fine texture: of 385 public B-mode frames one has less; a rendered skin has about 0.01


def check_header(header: Dataset) -> None:
    """Raises: QuarantineError synthetic, rendered_3d or not_two_dimensional, where the header says so.

    Nothing is concluded from silence: an image without regions and without a type may be anything.
    Source: DICOM PS3.3 C.12.1 (Synthetic Data). A model must not learn from what models made, abnormal or not.
    """
    if str(header.get("SyntheticData") or "").strip().upper() == "YES":
        raise QuarantineError(Reason.SYNTHETIC, "SyntheticData says YES")
    kind = image_kind(header)
    if kind & RENDERING:
        raise QuarantineError(Reason.RENDERED_3D, "ImageType says 3D rendering")
    regions = [item for item in header.get("SequenceOfUltrasoundRegions") or [] if _number(item, "RegionSpatialFormat")]
    tissue = any(
        _number(item, "RegionSpatialFormat") == TWO_D and _number(item, "RegionDataType") in (TISSUE, FLOW_DATA)
        for item in regions
    )
    if regions and not tissue:
        formats = sorted({_number(item, "RegionSpatialFormat") for item in regions} - {TWO_D})
        names = ", ".join(OTHER_FORMATS.get(f, "another format") for f in formats) or "no tissue"
        raise QuarantineError(Reason.NOT_TWO_DIMENSIONAL, f"its regions show {names}")
    if not tissue and kind & (M_MODE | CW_DOPPLER | PW_DOPPLER | COLOUR_M_MODE) and not kind & IMAGE_2D:
        raise QuarantineError(Reason.NOT_TWO_DIMENSIONAL, "ImageType says M-mode or spectral Doppler")


def announces_flow(header: Dataset) -> bool:
    """Whether the header speaks of colour flow: Image Type, or a region of that data type. Pixels decide."""
    regions = header.get("SequenceOfUltrasoundRegions") or []
    return bool(image_kind(header) & (COLOUR_FLOW | COLOUR_M_MODE | POWER)) or any(
        _number(item, "RegionDataType") == FLOW_DATA for item in regions
    )


def image_kind(header: Dataset) -> int:
    """Return value 4 of Image Type as a number, 0 where it is not stated or not one of the standard's."""
    values = header.get("ImageType") or []
    text = str(values[3]) if not isinstance(values, str) and len(values) > 3 else ""
    try:
        return int(text, 16) if len(text) == 4 else 0
    except ValueError:
        return 0


def check_pixels(region: Pixels, *, flow_announced: bool = False) -> None:
    """Check a frame's ultrasound region, uint8 [H, W] or RGB [H, W, 3].

    Raises: QuarantineError colour_doppler or rendered_3d.
    """
    if region.ndim == 2:
        return
    share = flow_share(region)
    if share > (FLOW_SHARE_ANNOUNCED if flow_announced else FLOW_SHARE):
        raise QuarantineError(Reason.COLOUR_DOPPLER, f"{100 * share:.1f} % of the region is coloured")
    if is_render(region):
        raise QuarantineError(Reason.RENDERED_3D, "smooth surfaces in one warm tint")


def flow_share(region: Pixels) -> float:
    """Return the share of an RGB region [H, W, 3] that blobs of another colour than the grey map's own cover."""
    rgb = region.astype(np.float32)
    top = rgb.max(axis=-1)
    off = (_distance_to_map(rgb, top) > OFF_MAP) | _vivid_and_cold(rgb, top)
    # Calipers, letters, traces and a colour box's outline are thin: they vanish when the mask is opened.
    blobs = ndimage.binary_opening(off & (top > BRIGHT), np.ones((3, 3), bool), iterations=2)
    return float(blobs.mean())


def is_render(region: Pixels) -> bool:
    """Whether an RGB region [H, W, 3] looks like a rendered surface: one warm tint, no speckle where it is bright."""
    rgb = _shrunk(region, TEXTURE_SIDE)
    top = rgb.max(axis=-1)
    bright = ndimage.binary_erosion(top > BRIGHT, iterations=2)
    if bright.mean() < 0.05:
        return False
    red, green, blue = (float(np.median(rgb[..., c][bright])) for c in range(3))
    warm = red > green > blue and (red - blue) / red > SEPIA
    return warm and fine_texture(top, bright) < SMOOTH


def fine_texture(grey: Floats, bright: Mask) -> float:
    """Return the median of the deviation from a local mean, relative to that mean, over bright pixels."""
    smooth = ndimage.gaussian_filter(grey, TEXTURE)
    return float(np.median(np.abs(grey - smooth)[bright] / smooth[bright]))


def _shrunk(region: Pixels, side: int) -> Floats:
    """Return the mean over whole blocks, so that the longer side comes near `side`."""
    step = max(1, round(max(region.shape[:2]) / side))
    height, width = (n // step * step for n in region.shape[:2])
    blocks = region[:height, :width].reshape(height // step, step, width // step, step, 3)
    shrunk: Floats = blocks.mean((1, 3), dtype=np.float32)
    return shrunk


def _distance_to_map(rgb: Floats, top: Floats) -> Floats:
    """Return how far each pixel's colour is from the grey map's at its brightness, in grey levels [H, W].

    A grey map is a curve through colour space: whatever its tint, brightness decides the colour. It starts in black and
    bends at most once (black, tint, white), so a parabola through 0 follows it, fitted to the median of each level.
    """
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    tint = rgb[..., ::2] - luma[..., None]  # red and blue against brightness
    seen = top > BRIGHT
    level = (luma[seen] * (LEVELS / 256)).astype(np.int64)
    usual, count = np.zeros((LEVELS, 2)), np.bincount(level, minlength=LEVELS)
    for step in np.nonzero(count)[0]:
        usual[step] = np.median(tint[seen][level == step], axis=0)
    curve = _parabola(usual, count.astype(np.float64))
    distance: Floats = np.abs(tint - np.stack([luma, luma**2], -1) @ curve).max(axis=-1)
    return distance


def _parabola(usual: npt.NDArray[np.float64], count: npt.NDArray[np.float64]) -> Floats:
    """Return the curve [2, 2] (by level and its square) through the tints of all levels [LEVELS, 2].

    Levels far off count less and less: bright ones may hold nothing but calipers, or nothing but flow.
    Source: iteratively reweighted least squares with Cauchy's weight, Holland & Welsch 1977.
    """
    place = (np.arange(LEVELS) + 0.5) * (256 / LEVELS)
    terms = np.stack([place, place**2], 1)
    weight, curve = count, np.zeros((2, 2))
    for _ in range(8):
        root = np.sqrt(weight)[:, None]
        curve = np.linalg.lstsq(terms * root, usual * root, rcond=None)[0]
        away = np.abs(usual - terms @ curve).max(1)
        weight = count / (1 + (away / ON_MAP) ** 2)
    return curve.astype(np.float32)


def _vivid_and_cold(rgb: Floats, top: Floats) -> Mask:
    """Where a pixel has a strong colour that no grey map has: blue, green, pure red."""
    low = rgb.min(axis=-1)
    spread = np.maximum(top - low, 1)
    red, green, blue = (rgb[..., c] for c in range(3))
    hue = np.select(
        [top == red, top == green],
        [60 * (green - blue) / spread % 360, 60 * (blue - red) / spread + 120],
        60 * (red - green) / spread + 240,
    )
    vivid: Mask = (spread > VIVID * np.maximum(top, 1)) & ((hue < WARM[0]) | (hue > WARM[1]))
    return vivid


def _number(item: Dataset, keyword: str) -> int:
    value: Any = item.get(keyword)
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0
