"""What the feature detectors look at: maps of a network that learnt real planes, and the heat they make of an image."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from fetalflex.downstream.data.anomalies import AnomalyTask
from fetalflex.downstream.data.arms import pretext_pool
from fetalflex.downstream.detectors.gaussians import PlaceGaussians
from fetalflex.downstream.detectors.neighbours import PatchMemory
from fetalflex.downstream.training.loop import Images, Learner, feature_maps, train
from fetalflex.params_evaluate import Evaluate, ModelName
from fetalflex.rng import generator

Floats = npt.NDArray[np.float32]
Scores = dict[str, npt.NDArray[np.float32]]
# The densest maps of the six at every size (a sixteenth of the image's side): what a place can be told apart by.
ENCODER: ModelName = "densenet"
_MEMORY, _CHANNELS, _SMOOTH_PX = 1000, 32, 2.0


def detect_by_features(
    kind: str, task: AnomalyTask, sets: dict[str, Images], params: Evaluate, seed: int
) -> tuple[Scores, Scores]:
    """Fit `neighbours` or `gaussian` to real normal images; return scores [N] and heat maps [N, S, S] per set."""
    network, _ = train(Learner(ENCODER, 0, seed), pretext_pool(task), params)
    normal = feature_maps(network, task.real.images)
    rng = generator(seed, "detector", kind)
    model = PatchMemory.of(normal, _MEMORY, rng) if kind == "neighbours" else PlaceGaussians.of(normal, _CHANNELS, rng)
    scores: Scores = {}
    heats: Scores = {}
    for name, images in sets.items():
        heat = model.heat(feature_maps(network, images)) if len(images) else np.zeros((0, 1, 1), np.float32)
        scores[name] = heat.reshape(len(heat), -1).max(1) if len(heat) else np.zeros(0, np.float32)
        heats[name] = enlarge(heat, images.shape[1])
    return scores, heats


def enlarge(heat: Floats, side: int) -> Floats:
    """Return heat maps [N, h, w] on the image's own pixels, smoothed: float32 [N, side, side]."""
    if not len(heat):
        return np.zeros((0, side, side), np.float32)
    grown = interpolate(torch.from_numpy(heat)[:, None], size=(side, side), mode="bilinear", align_corners=False)
    smooth: Floats = gaussian_filter(grown[:, 0].numpy(), (0, _SMOOTH_PX, _SMOOTH_PX))
    return smooth
