"""Every detector by its name, on every set of images: scores, and heat maps where it makes any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fetalflex.downstream.data.anomalies import AnomalyTask
from fetalflex.downstream.detectors.features import detect_by_features
from fetalflex.downstream.study import SETS, Outcome, image_sets
from fetalflex.errors import ArtifactError
from fetalflex.params_evaluate import Evaluate
from fetalflex.rng import generator

if TYPE_CHECKING:
    from fetalflex.masks.segmenter import Segmenter
    from fetalflex.model.generator import Generator

STYLE = "style-only"
HEATS = ("pairs_abnormal", "abnormal")  # of which sets heat maps are kept
_FITTED = 96  # real normal images that the counterfactual's residuals are measured in


@dataclass(frozen=True, eq=False)
class Networks:
    """What the counterfactual (both) and the style-only classifier (the guide) need; feature detectors need neither."""

    generator: Generator
    guide: Segmenter


def run_detector(name: str, task: AnomalyTask, params: Evaluate, seed: int, networks: Networks | None) -> Outcome:
    """Return scores of each of `SETS` and, as `heat_<set>` float16, heat maps of `HEATS`.

    The style-only classifier scores `test` and `abnormal` alone. Raises: ArtifactError where it lacks its networks.
    """
    sets = image_sets(task)
    if name in ("neighbours", "gaussian"):
        scores, heats = detect_by_features(name, task, sets, params, seed)
        return _outcome(scores, heats)
    if networks is None:
        raise ArtifactError(f"evaluate: the detector {name} needs models/generator and models/guide; run train")
    if name == STYLE:
        return _style(task, networks.guide)
    from fetalflex.downstream.detectors.counterfactual import NormalResiduals, Reconstructor, image_scores

    maker = Reconstructor(networks.generator, networks.guide, params, seed)
    chosen = np.sort(generator(seed, "fitted").permutation(len(task.real))[:_FITTED])
    fitted = NormalResiduals.of(maker.residuals(task.real.images[chosen], task.real.labels[chosen]))
    planes = (task.calibration.labels, task.test.labels, task.abnormal_planes, task.pairs.planes, task.pairs.planes)
    heats = {set_: fitted.heat(maker.residuals(sets[set_], named)) for set_, named in zip(SETS, planes, strict=True)}
    return _outcome({set_: image_scores(heat) for set_, heat in heats.items()}, heats)


def _outcome(scores: dict[str, npt.NDArray[np.float32]], heats: dict[str, npt.NDArray[np.float32]]) -> Outcome:
    found: Outcome = dict(scores)
    return found | {f"heat_{name}": heats[name].astype(np.float16) for name in HEATS}


def _style(task: AnomalyTask, guide: Segmenter) -> Outcome:
    from fetalflex.downstream.detectors.style import anatomy_masks, style_scores

    images = np.concatenate([task.test.images, task.abnormal.images])
    abnormal = np.repeat([False, True], [len(task.test), len(task.abnormal)])
    patients = np.concatenate([task.test.patients, task.abnormal.patients])
    scores = style_scores(images, anatomy_masks(guide, images), abnormal, patients)
    return {"test": scores[~abnormal], "abnormal": scores[abnormal]}
