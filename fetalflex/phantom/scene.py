"""A scene: one fetal part placed before the probe, in amniotic fluid and the mother's tissue, drawn on any grid."""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

from fetalflex.errors import LayoutError
from fetalflex.phantom.canvas import Canvas, Change, Plan
from fetalflex.phantom.planes import plan
from fetalflex.phantom.tissues import INDEX

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
MIN_WEEKS, MAX_WEEKS = 18.0, 34.0

# How the part lies before the probe: the usual directions of u, degrees (0: right, 90: away from the probe), and the
# spread. The head and the femur are imaged across the beam; a spine towards the probe would shadow all.
_POSES: dict[str, tuple[tuple[float, ...], float]] = {
    "transventricular": ((0.0, 180.0), 12.0),
    "abdomen": ((0.0, 180.0, 315.0, 225.0), 18.0),
    "four-chamber": ((0.0, 180.0, 300.0, 240.0), 18.0),
    "femur": ((0.0, 180.0), 10.0),
    "transthalamic": ((0.0, 180.0), 12.0),
    "transcerebellar": ((0.0, 180.0), 12.0),
    "face": ((0.0, 180.0), 10.0),
    "face-lips": ((0.0, 180.0), 8.0),
    "kidneys": ((90.0, 270.0), 12.0),
    "thorax": ((0.0, 180.0, 300.0, 240.0), 18.0),
}
# With u to the right v points away from the probe: the distal hemisphere, the back of the head, the chin.
_DOWNWARD = ("transventricular", "transthalamic", "transcerebellar", "face", "face-lips")


@dataclass(frozen=True, eq=False)
class Scene:
    """Anatomy placed in probe coordinates: x mm right of the probe's middle, y mm below its surface.

    `depth_mm` is how deep the sonographer looks: past the part and some.
    """

    plane: str
    weeks: float
    depth_mm: float
    anatomy: Plan
    centre: tuple[float, float]
    angle: float
    mirrored: bool
    layers: tuple[float, float]
    cavity: tuple[float, float, float]
    placenta: float
    phases: tuple[float, ...]

    def draw(self, x: Floats, y: Floats) -> tuple[npt.NDArray[np.int8], dict[str, Mask]]:
        """Return the tissue map (indices of `tissues.TISSUES`) and the structures' masks at points (x, y) in mm."""
        canvas = self._fetus(x, y)
        tissue = np.where(canvas.tissue < 0, self._surroundings(x, y), canvas.tissue)
        return tissue.astype(np.int8), canvas.masks

    def masks(self, x: Floats, y: Floats) -> dict[str, Mask]:
        """Return the structures' masks at points (x, y) in mm."""
        return self._fetus(x, y).masks

    def _fetus(self, x: Floats, y: Floats) -> Canvas:
        dx, dy = x - self.centre[0], y - self.centre[1]
        c, s = cos(self.angle), sin(self.angle)
        u, v = dx * c + dy * s, -dx * s + dy * c
        canvas = Canvas(u, -v if self.mirrored else v)
        self.anatomy.paint(canvas)
        return canvas

    def _surroundings(self, x: Floats, y: Floats) -> npt.NDArray[np.int8]:
        """Return fat, muscle and uterus of the mother, placenta, amniotic fluid: all that is not the fetus."""
        fat, muscle = self.layers
        p = self.phases
        wavy = y + 0.8 * np.sin(x / 17 + p[0]) + 0.5 * np.sin(x / 7 + p[1])
        tissue = np.full(x.shape, INDEX["uterus"], np.int8)
        tissue[wavy < muscle] = INDEX["maternal-muscle"]
        tissue[wavy < fat] = INDEX["maternal-fat"]
        tissue[(wavy < fat + 0.7) & (wavy > fat)] = INDEX["fascia"]
        tissue[np.abs(wavy - muscle) < 0.4] = INDEX["fascia"]
        a, b, turn = self.cavity
        dx, dy = x - self.centre[0] - turn * a, y - self.centre[1]
        around = np.arctan2(dy, dx)
        edge = (
            1 + 0.05 * np.sin(2 * around + p[2]) + 0.04 * np.sin(3 * around + p[3]) + 0.015 * np.sin(9 * around + p[4])
        )
        radius = np.sqrt((dx / a) ** 2 + (dy / b) ** 2) / edge
        low = muscle + 2.5
        inside = (radius < 1) & (wavy > low)
        if self.placenta:  # anterior where positive, posterior where negative
            thick = abs(self.placenta)
            bed = (wavy < low + thick) if self.placenta > 0 else (dy > b * edge - thick - 6)
            tissue[(radius < 1.1) & bed & (wavy > low)] = INDEX["placenta"]
            inside &= ~bed
        tissue[inside] = INDEX["fluid"]
        return tissue


def make_scene(plane: str, weeks: float, rng: np.random.Generator, anomaly: Change = None) -> Scene:
    """Return a scene of a plane at an age, with natural variation of size, shape, position, direction and surroundings.

    `anomaly`: (name, severity) for an abnormal scene; for measurements, never for training.
    Raises: LayoutError for a plane without a plan or an age out of 18 to 34 weeks, AnomalyError as `planes.plan`.
    """
    if not MIN_WEEKS <= weeks <= MAX_WEEKS:
        raise LayoutError(f"the phantom knows 18 to 34 weeks; found {weeks:g}")
    anatomy = plan(plane, weeks, rng, anomaly)
    directions, spread = _POSES[plane]
    angle = radians(float(rng.choice(directions)) + float(np.clip(rng.normal(0, spread), -2 * spread, 2 * spread)))
    half_u, half_v = anatomy.half
    half_x = float(np.hypot(half_u * cos(angle), half_v * sin(angle)))
    half_y = float(np.hypot(half_u * sin(angle), half_v * cos(angle)))
    fat = rng.uniform(3, 7)
    muscle = fat + rng.uniform(3, 6)
    placenta = float(rng.choice([0.0, 1.0, -1.0], p=[0.5, 0.25, 0.25])) * rng.uniform(6, 12)
    gap = rng.uniform(1.5, 6) + max(placenta, 0.0) + (6 if plane == "femur" else 0)
    centre_y = muscle + 2.5 + gap + half_y
    centre_x = rng.uniform(-0.08, 0.08) * half_x
    below = rng.uniform(0.12, 0.35) * half_y + 5 + (14 if plane == "femur" else 0)
    depth = float(np.ceil((centre_y + half_y + below) / 5) * 5)
    return Scene(
        plane, weeks, depth, anatomy, (centre_x, centre_y), angle,
        # Turned by 180 degrees it takes the mirror to keep v away from the probe.
        bool(cos(angle) < 0) if plane in _DOWNWARD else bool(rng.random() < 0.5),
        (fat, muscle),
        (half_x + rng.uniform(5, 15), half_y + gap - max(placenta, 0.0) + rng.uniform(6, 10), rng.uniform(-0.12, 0.12)),
        placenta, tuple(rng.uniform(0, 6.28, 5)),
    )  # fmt: skip
