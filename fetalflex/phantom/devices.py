"""The phantom's two devices: invented, but with values as curved obstetric probes have them."""

from dataclasses import dataclass
from typing import Literal

from fetalflex.errors import ParameterError


@dataclass(frozen=True)
class Device:
    """A curved-array scanner: `frame` is (rows, columns); `header` the rows above the sector that carry burned-in text.

    `radius_mm`, `half_angle`: the probe's curvature and half its field (degrees). `tgc_error_db`: how far the gain
    is from even, at the deepest point. `dynamic_range_db`, `gain_db`: the log compression.
    """

    name: str
    manufacturer: str
    model: str
    institution: str
    frequency_mhz: float
    cycles: float
    f_number: float
    radius_mm: float
    half_angle: float
    lines: int
    frame: tuple[int, int]
    header: int
    dynamic_range_db: float
    gain_db: float
    tgc_error_db: float
    syntax: Literal["explicit", "rle"]


DEVICES: dict[str, Device] = {
    "curved-a": Device(
        "curved-a", "Norderlund Medical", "Aurora V8", "Nordsund Kvinneklinikk", 4.2, 2.2, 2.6, 55.0, 36.0, 192,
        (448, 576), 40, 62.0, 10.0, -3.0, "explicit",
    ),
    "curved-b": Device(
        "curved-b", "Meridian Ultrasonics", "Pampero 50", "Hospital Materno Bahia Sur", 3.4, 2.5, 3.1, 62.0, 30.0, 144,
        (400, 512), 32, 52.0, 12.0, 3.5, "rle",
    ),
}  # fmt: skip


def device(name: str) -> Device:
    """Return the device of that name. Raises: ParameterError if there is none."""
    if name not in DEVICES:
        raise ParameterError(f"device {name!r} is unknown; expected one of {', '.join(DEVICES)}")
    return DEVICES[name]
