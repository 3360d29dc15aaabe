"""How often the interval of the Fréchet distance covers the truth: Gaussians of known distance, many runs.

python -m benchmarks.frechet_coverage [--runs 500]
"""

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.linalg import sqrtm

from fetalflex.quality.fidelity.frechet import corrected
from fetalflex.quality.fidelity.sample import Sample
from fetalflex.rng import generator


@dataclass(frozen=True)
class Setting:
    """`count` images a side of `features` dimensions, means `shift` apart, covariances apart by `scale`."""

    features: int
    count: int
    shift: float
    scale: float
    per_patient: int = 1


SETTINGS = (
    Setting(2, 200, 1, 0.3), Setting(8, 200, 1, 0.3), Setting(16, 200, 1, 0.3), Setting(16, 400, 1, 0.3),
    Setting(16, 400, 0, 0.3), Setting(16, 200, 0, 0.1), Setting(4, 200, 0.3, 0), Setting(16, 400, 0.3, 0),
    Setting(4, 200, 0, 0), Setting(16, 400, 0, 0), Setting(8, 300, 0.7, 0.3, 3), Setting(8, 150, 0, 0, 3),
)  # fmt: skip


def truth(setting: Setting, random: np.random.Generator) -> tuple[float, list[np.ndarray], np.ndarray]:
    """Return the true distance, the factors of both covariances and the second mean."""
    d = setting.features
    first = random.standard_normal((d, d)) / np.sqrt(d)
    second = first + setting.scale * random.standard_normal((d, d)) / np.sqrt(d)
    covariances = [a @ a.T + 0.1 * np.eye(d) for a in (first, second)]
    mean = np.eye(d)[0] * setting.shift
    root = np.real(sqrtm(covariances[0] @ covariances[1])) if setting.scale else covariances[0]
    distance = float(mean @ mean + np.trace(covariances[0] + covariances[1] - 2 * root))
    return distance if setting.scale else setting.shift**2, [np.linalg.cholesky(c) for c in covariances], mean


def drawn(setting: Setting, factor: np.ndarray, mean: np.ndarray, random: np.random.Generator) -> Sample:
    """Draw one side; a patient's images share half of their variance."""
    patients = np.arange(setting.count) // setting.per_patient
    rows = random.standard_normal((setting.count, setting.features))
    if setting.per_patient > 1:
        shared = random.standard_normal((patients.max() + 1, setting.features))[patients]
        rows = np.sqrt(0.5) * (rows + shared)
    return Sample(rows @ factor.T + mean, patients)


def main() -> None:
    """Measure and print, setting by setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    for number, setting in enumerate(SETTINGS):
        random = generator(number, "coverage")
        distance, factors, mean = truth(setting, random)
        found = [
            corrected(drawn(setting, factors[0], 0 * mean, random), drawn(setting, factors[1], mean, random), random)
            for _ in range(runs)
        ]
        above = 100 * np.mean([i.low > distance for i in found])
        below = 100 * np.mean([i.high < distance for i in found])
        mean_found = np.mean([i.value for i in found])
        covered = f"covered {100 - above - below:.1f} %, above {above:.1f} %, below {below:.1f} %"
        print(f"{setting}: true {distance:.4f}, mean {mean_found:.4f}, {covered}", flush=True)


if __name__ == "__main__":
    main()
