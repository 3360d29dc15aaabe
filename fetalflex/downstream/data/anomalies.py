"""The second task: is an image abnormal? Learnt from real normal and synthetic abnormal images, for there is no other.

Real abnormal images are a test set alone (`abnormal`), and so are counterfactual pairs. What a training may see is
`real`, `synthetic` and `synthetic_abnormal`; `AnomalyTask` refuses a real abnormal image, or a pair's case, there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fetalflex.downstream.data.labelled import Images, Labelled, Names
from fetalflex.downstream.data.planes import check_apart, parents, united
from fetalflex.errors import TooFewCasesError

NORMAL, ABNORMAL = "normal", "abnormal"
CLASSES = (NORMAL, ABNORMAL)
MIN_ABNORMAL = 4


@dataclass(frozen=True, eq=False)
class Pairs:
    """Counterfactual pairs: normal and abnormal uint8 [P, S, S], the changed region bool [P, S, S].

    anomalies, planes, cases (whose layout it is) str [P]; severities float64 [P] in `units` str [P].
    """

    normal: Images
    abnormal: Images
    regions: npt.NDArray[np.bool_]
    anomalies: Names
    planes: Names
    cases: Names
    severities: npt.NDArray[np.float64]
    units: Names

    def __len__(self) -> int:
        return len(self.normal)


@dataclass(frozen=True, eq=False)
class Material:
    """What a workspace has for the task, before it is chosen; labels are planes, of `abnormal` findings.

    `patients` of synthetic images are the cases that gave their layouts.
    """

    real: Labelled
    synthetic: Labelled
    synthetic_abnormal: Labelled
    calibration: Labelled
    test: Labelled
    abnormal: Labelled
    abnormal_planes: Names
    pairs: Pairs


@dataclass(frozen=True, eq=False)
class AnomalyTask(Material):
    """Images of the planes on which anomalies are asked. Labels are planes, of `abnormal` findings.

    `real`, `synthetic` (normal) and `synthetic_abnormal` may be trained on; `test` (normal), `abnormal` and `pairs` are
    tests; `calibration`: real normal images of patients in neither, which alone set thresholds.
    """

    planes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises: TooFewCasesError where a test image could reach training."""
        parts = (self.real, self.synthetic_abnormal, self.synthetic)
        trained = {image.tobytes() for part in parts for image in part.images}
        tested = [*self.abnormal.images, *self.pairs.abnormal, *self.pairs.normal]
        shared = sum(image.tobytes() in trained for image in tested)
        cases = set(self.pairs.cases.tolist()) & set(self.synthetic_abnormal.patients.tolist())
        if shared or cases:
            raise TooFewCasesError(
                f"evaluate: {shared} abnormal test images and {len(cases)} cases of pairs are among what is trained "
                "on; expected none"
            )


def anomaly_task(material: Material) -> AnomalyTask:
    """Keep the planes that synthetic anomalies show; drop synthetic abnormal images whose case is also a pair's.

    Raises: TooFewCasesError where nothing abnormal is left to learn from, or nothing to test on.
    """
    check_apart(material.test, material.real, material.calibration)
    free = ~np.isin(material.synthetic_abnormal.patients, material.pairs.cases)
    learnt = material.synthetic_abnormal.take(free)
    if len(learnt) < MIN_ABNORMAL:
        raise TooFewCasesError(
            f"evaluate: {len(learnt)} synthetic abnormal images do not share a case with a pair; expected at least "
            f"{MIN_ABNORMAL}. Raise sample.abnormal, or take 'anomaly' out of evaluate.tasks"
        )
    if not len(material.pairs) and not len(material.abnormal):
        raise TooFewCasesError(
            "evaluate: nothing abnormal to test on: no counterfactual pairs and no real abnormal images; raise "
            "sample.pairs, add a center of the role test_only, or take 'anomaly' out of evaluate.tasks"
        )
    parent = parents(set(material.real.labels) | set(material.test.labels))
    planes = sorted({*united(learnt.labels, parent), *united(material.pairs.planes, parent)})
    real, synthetic, calibration, test = (
        _of_planes(part, parent, planes)
        for part in (material.real, material.synthetic, material.calibration, material.test)
    )
    if not len(real) or not len(test) or not len(calibration):
        raise TooFewCasesError(
            f"evaluate: {len(real)} normal training, {len(calibration)} judge and {len(test)} test images of the "
            f"planes {', '.join(planes)}; expected some of each. Add cases of these planes"
        )
    learnt = learnt.relabelled(united(learnt.labels, parent))
    return AnomalyTask(
        real, synthetic, learnt, calibration, test, material.abnormal, material.abnormal_planes, material.pairs,
        tuple(planes),
    )  # fmt: skip


def _of_planes(part: Labelled, parent: dict[str, str], planes: Sequence[str]) -> Labelled:
    named = part.relabelled(united(part.labels, parent))
    return named.take(np.isin(named.labels, list(planes)))
