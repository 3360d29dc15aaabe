"""Pretrained weights in folders of this machine: no stage makes them, and what stages make depends on them."""

from pathlib import Path

from fetalflex.artifacts import tree_sha256
from fetalflex.params import Params
from fetalflex.quality.features.places import FOLDER, HUB

NONE = "none"


def weights_folders(root: Path, params: Params) -> dict[str, list[Path]]:
    """Return, for each stage that may read pretrained weights, the folders that its parameters name.

    Relative ones lie in the workspace `root`, where stages run. Weights of the hub are none: their revision is part of
    the parameter, and the same revision is the same bytes.
    """
    base, score = params.train.base, params.score
    places = [place for place in (*score.encoders, score.lpips) if place is not None and place.startswith(FOLDER)]
    return {
        "train": [] if base is None or base.startswith(HUB) else [root / base],
        "score": [root / place.removeprefix(FOLDER) for place in places],
    }


def weights_fingerprints(root: Path, params: Params) -> dict[str, str]:
    """Return one SHA-256 per such stage over the files in its folders; `none` where it names no folder.

    A folder that is not there counts as empty: the stage that reads it says so.
    """
    found = {}
    for stage, folders in weights_folders(root, params).items():
        there = [folder for folder in folders if folder.is_dir()]
        found[stage] = tree_sha256(there) if folders else NONE
    return found
