"""From tissue to B-mode: scatterers, point-spread function, attenuation, interfaces, log compression, scan conversion.

Everything happens on the scan lines of a curved array: axis 0 is depth, axis 1 the lines. The complex field is
the baseband signal, so its magnitude is the envelope. Source for the model (scatterers convolved with a
depth-dependent PSF, first-order speckle statistics): Wagner, Smith, Sandrik, Lopez, Statistics of speckle in ultrasound
B-scans, IEEE Trans Sonics Ultrasonics 1983;30:156-63; Bamber and Dickinson, Phys Med Biol 1980;25:463-79.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fetalflex.phantom.devices import Device
from fetalflex.phantom.scene import Mask, Scene
from fetalflex.phantom.tissues import INDEX, table

Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.complex128]
SPEED_MM_PER_US = 1.54
SAMPLES = 512
_PAD = 24  # lines beyond both edges, so that the circular lateral convolution does not wrap into the image
_SPECULAR_DB = 9.0  # of an interface from soft tissue to bone, above the brightest speckle
_DIRECTIVITY = 4.0  # exponent of cos(incidence): interfaces across the beam answer, others fade


@dataclass(frozen=True, eq=False)
class Picture:
    """A B-mode image.

    pixels: uint8 [H, W]; masks: bool [H, W] of the structures, as far as they lie in the sector; spacing_mm: of
    the square pixels; region: (x0, y0, x1, y1), exclusive, the rectangle around the sector; sector: bool [H, W].
    """

    pixels: npt.NDArray[np.uint8]
    masks: dict[str, Mask]
    spacing_mm: float
    region: tuple[int, int, int, int]
    sector: Mask


def image_scene(scene: Scene, device: Device, rng: np.random.Generator) -> Picture:
    """Image a scene with a device; `rng` draws the speckle."""
    depths = (np.arange(SAMPLES) + 0.5) * scene.depth_mm / SAMPLES
    angles = _angles(device)
    reach = device.radius_mm + depths[:, None]
    tissue, _ = scene.draw(reach * np.sin(angles), reach * np.cos(angles) - device.radius_mm)
    field = echo_field(tissue, depths, device, rng)
    levels = compress(np.abs(field), depths, device, rng)
    levels = levels[:, _PAD:-_PAD]
    return _scan_convert(scene, device, levels)


def echo_field(tissue: npt.NDArray[np.int8], depths: Floats, device: Device, rng: np.random.Generator) -> Field:
    """Return the complex baseband field [samples, lines] of a tissue map on the lines, after attenuation and TGC."""
    scatter = _scatterers(tissue, rng)
    gain = _attenuation(tissue, depths, device)
    field = (scatter + _interfaces(tissue, depths, device, rng)) * gain
    return blur(field, depths, device)


def homogeneous_envelope(device: Device, depth_mm: float, rng: np.random.Generator) -> Floats:
    """Return the envelope [samples, lines] of unit scatterers without attenuation: fully developed speckle.

    Its magnitude is Rayleigh-distributed with mean/std = sqrt(pi / (4 - pi)) = 1.913. Source: Wagner et al. 1983.
    """
    depths = (np.arange(SAMPLES) + 0.5) * depth_mm / SAMPLES
    shape = (SAMPLES, len(_angles(device)))
    noise = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return np.asarray(np.abs(blur(noise, depths, device))[:, _PAD:-_PAD])


def blur(field: Field, depths: Floats, device: Device) -> Field:
    """Convolve with the PSF: a Gaussian pulse in depth, a Gaussian beam across whose width depends on depth.

    Beam: best at the focus (55 % of the depth), sqrt(1 + (z/z0)^2) wider away from it (Gaussian beam). Energy is kept,
    so unit noise stays unit noise at each depth.
    """
    wavelength = SPEED_MM_PER_US / device.frequency_mhz
    step = depths[1] - depths[0]
    sigma = device.cycles * wavelength / 2 / 2.355 / step  # full width at half maximum: half the pulse's length
    field = ndimage.gaussian_filter1d(field.real, sigma, axis=0, mode="constant") + 1j * ndimage.gaussian_filter1d(
        field.imag, sigma, axis=0, mode="constant"
    )
    field *= np.sqrt(2 * np.sqrt(np.pi) * sigma)
    focus, waist = 0.55 * depths[-1], 1.02 * wavelength * device.f_number / 2.355
    width = waist * np.sqrt(1 + ((depths - focus) / (0.5 * depths[-1])) ** 2)
    pitch = (device.radius_mm + depths) * np.deg2rad(2 * device.half_angle) / (device.lines - 1)
    across = np.maximum(width / pitch, 0.35)[:, None]  # sigma in lines
    omega = 2 * np.pi * np.fft.fftfreq(field.shape[1])[None]
    transfer = np.exp(-0.5 * (omega * across) ** 2)
    transfer /= np.sqrt(np.mean(transfer**2, axis=1, keepdims=True))
    return np.asarray(np.fft.ifft(np.fft.fft(field, axis=1) * transfer, axis=1))


def compress(envelope: Floats, depths: Floats, device: Device, rng: np.random.Generator) -> Floats:
    """Return display levels 0..255: electronic noise that grows with the TGC, then log compression."""
    noise_db = -70 + 26 * (depths / depths[-1]) ** 3  # our estimate of a mid-range scanner at 5 frames averaged
    noise = 10 ** (noise_db / 20)[:, None] * rng.rayleigh(0.7, envelope.shape)
    db = 20 * np.log10(np.hypot(envelope, noise) + 1e-6) + device.gain_db
    return np.asarray(np.clip((db + device.dynamic_range_db) / device.dynamic_range_db, 0, 1) ** 1.15 * 255)


def _angles(device: Device) -> Floats:
    """Return the angle of each line in radians, padding lines included."""
    half = np.deg2rad(device.half_angle)
    pitch = 2 * half / (device.lines - 1)
    return np.asarray((np.arange(-_PAD, device.lines + _PAD) - (device.lines - 1) / 2) * pitch)


def _scatterers(tissue: npt.NDArray[np.int8], rng: np.random.Generator) -> Field:
    """Return complex scatterers: Gaussian amplitude by the tissue's echogenicity, thinned by its density."""
    amplitude = 10 ** (table("echo_db")[tissue] / 20)
    density = table("density")[tissue]
    noise = (rng.standard_normal(tissue.shape) + 1j * rng.standard_normal(tissue.shape)) / np.sqrt(2)
    noise *= (rng.random(tissue.shape) < density) / np.sqrt(density)
    # Tissue is not even: slow variations of 2 dB, as in any organ.
    slow = ndimage.gaussian_filter(rng.standard_normal((tissue.shape[0] // 8, tissue.shape[1] // 4)), (2.5, 2))
    slow /= slow.std()
    zoomed = ndimage.zoom(slow, (tissue.shape[0] / slow.shape[0], tissue.shape[1] / slow.shape[1]), order=1)
    return np.asarray(noise * amplitude * 10 ** (2.0 * zoomed[: tissue.shape[0], : tissue.shape[1]] / 20))


def _attenuation(tissue: npt.NDArray[np.int8], depths: Floats, device: Device) -> Floats:
    """Return the gain [samples, lines]: what the tissue above takes, against what the TGC expects of soft tissue."""
    step_cm = (depths[1] - depths[0]) / 10
    loss_db = 2 * device.frequency_mhz * step_cm * np.cumsum(table("attenuation")[tissue], axis=0)
    # The sonographer sets the sliders so that the image is even: the frame's median loss at each depth is given back.
    expected_db = 2 * device.frequency_mhz * step_cm * 0.42 * np.arange(1, len(depths) + 1)
    even_db = np.minimum(expected_db, np.median(loss_db, axis=1) + 3)[:, None]
    error_db = device.tgc_error_db * (depths / depths[-1])[:, None]
    return np.asarray(10 ** (np.clip(even_db + error_db - loss_db, -60, 9) / 20))


def _interfaces(tissue: npt.NDArray[np.int8], depths: Floats, device: Device, rng: np.random.Generator) -> Field:
    """Return specular echoes: the step of impedance along the beam, strongest where the interface lies across it."""
    impedance = ndimage.gaussian_filter(table("impedance")[tissue], (1.0, 0.8))
    step = depths[1] - depths[0]
    pitch = (device.radius_mm + depths[:, None]) * np.deg2rad(2 * device.half_angle) / (device.lines - 1)
    along, across = np.gradient(impedance, axis=0) / step, np.gradient(impedance, axis=1) / pitch
    cosine = np.abs(along) / (np.hypot(along, across) + 1e-9)
    reference = (table("impedance")[INDEX["skull"]] - 1.55) / (2 * step)  # an interface of one sample
    strength = np.abs(along) / reference * cosine**_DIRECTIVITY * 10 ** (_SPECULAR_DB / 20)
    # Smooth surfaces answer in phase over several lines, rough ones do not: a phase that drifts along the interface.
    phase = ndimage.gaussian_filter(rng.standard_normal((1, tissue.shape[1])), (0, 5)) * 12
    fade = 1 + 0.35 * ndimage.gaussian_filter(rng.standard_normal(tissue.shape), (3, 3)) * 6
    return np.asarray(strength * np.clip(fade, 0.15, 2) * np.exp(1j * phase) * 0.35)


def _scan_convert(scene: Scene, device: Device, levels: Floats) -> Picture:
    """Return the sector on the frame's square pixels, black outside, and the structures' masks on the same pixels."""
    rows, columns = device.frame
    half = np.deg2rad(device.half_angle)
    top = device.radius_mm * (1 - np.cos(half))  # the probe's edges lie above its middle
    usable = rows - device.header - 6
    spacing = (scene.depth_mm + top) / usable
    width = 2 * (device.radius_mm + scene.depth_mm) * np.sin(half)
    spacing = max(spacing, width / (columns - 8))
    y = (np.arange(rows) + 0.5 - device.header - 2) * spacing - top
    x = (np.arange(columns) + 0.5 - columns / 2) * spacing
    x, y = np.broadcast_arrays(x[None], y[:, None])
    reach = np.hypot(x, y + device.radius_mm)
    angle = np.arctan2(x, y + device.radius_mm)
    depth = reach - device.radius_mm
    sector = (depth >= 0) & (depth < scene.depth_mm) & (np.abs(angle) <= half)
    position = [
        depth[sector] / scene.depth_mm * SAMPLES - 0.5,
        (angle[sector] + half) / (2 * half) * (device.lines - 1),
    ]
    pixels = np.zeros((rows, columns), np.uint8)
    pixels[sector] = np.rint(ndimage.map_coordinates(levels, position, order=1, mode="nearest"))
    inside = {}
    for name, mask in scene.masks(x[sector], y[sector]).items():
        inside[name] = np.zeros((rows, columns), bool)
        inside[name][sector] = mask
    ys, xs = np.nonzero(sector)
    region = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    return Picture(pixels, inside, float(spacing), region, sector)
