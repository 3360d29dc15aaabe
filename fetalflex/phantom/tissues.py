"""Tissues of the phantom and how ultrasound meets them.

Echogenicities are relative levels as they appear on obstetric B-mode images (our estimate, ordered after textbook
descriptions); attenuation of soft tissue and fluid after Duck, Physical Properties of Tissues, 1990 (0.3 to 0.9
dB/cm/MHz), of fetal bone lowered, since it is thin and little mineralised: a skull lets the brain be seen.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tissue:
    """A tissue's part in the echo.

    echo_db: mean backscatter, 0 is brightest. attenuation: dB/cm/MHz, one way. impedance: MRayl (bone's compressed).
    density: share of resolution cells' sub-cells that hold a scatterer; 1 gives fully developed speckle.
    """

    name: str
    echo_db: float
    attenuation: float
    impedance: float
    density: float = 1.0


TISSUES: tuple[Tissue, ...] = (
    Tissue("fluid", -74, 0.02, 1.50, 0.3),
    Tissue("maternal-fat", -33, 0.6, 1.42),
    Tissue("maternal-muscle", -30, 0.6, 1.60),
    Tissue("uterus", -29, 0.6, 1.58),
    Tissue("placenta", -22, 0.5, 1.60),
    Tissue("fascia", -16, 0.6, 1.63),
    Tissue("skin", -22, 0.6, 1.59),
    Tissue("soft", -27, 0.55, 1.59, 0.8),
    Tissue("skull", -3, 5.0, 2.10),
    Tissue("bone", 0, 32.0, 2.30),
    Tissue("shaft", 0, 10.0, 2.30),
    Tissue("rib", -8, 4.5, 1.80),
    Tissue("brain", -38, 0.4, 1.55),
    Tissue("cortex", -44, 0.4, 1.54),
    Tissue("falx", -13, 0.5, 1.62),
    Tissue("wall", -17, 0.5, 1.62),
    Tissue("choroid", -17, 0.5, 1.58),
    Tissue("csf", -72, 0.02, 1.50, 0.3),
    Tissue("haze", -29, 0.45, 1.55),
    Tissue("haze-faint", -33, 0.42, 1.55),
    Tissue("liver", -27, 0.5, 1.58),
    Tissue("lung", -23, 0.5, 1.56),
    Tissue("myocardium", -24, 0.5, 1.61),
    Tissue("blood", -62, 0.08, 1.53, 0.4),
    Tissue("thalamus", -45, 0.4, 1.545),
    Tissue("brain-bright", -30, 0.45, 1.56),
    Tissue("cerebellum", -42, 0.4, 1.55),
    Tissue("cerebellum-folia", -35, 0.45, 1.56),
    Tissue("cerebellum-edge", -26, 0.45, 1.57),
    Tissue("kidney", -33, 0.5, 1.57),
    Tissue("medulla", -44, 0.4, 1.55),
    Tissue("sinus", -20, 0.5, 1.58),
    Tissue("face-tissue", -39, 0.5, 1.57),
    Tissue("tongue", -36, 0.55, 1.58),
    Tissue("face-bone", -5, 2.5, 1.85),
)
INDEX: dict[str, int] = {t.name: i for i, t in enumerate(TISSUES)}
Floats = npt.NDArray[np.float64]


def table(attribute: str) -> Floats:
    """Return one attribute of all tissues, to be indexed by a tissue map."""
    return np.array([getattr(t, attribute) for t in TISSUES], dtype=float)
