"""What a workspace knows of its model's training, for commands outside of the chain: layouts, centers, figures."""

from pathlib import Path

import numpy as np

from fetalflex.anatomy.layout import Layout
from fetalflex.artifacts import read_json
from fetalflex.synthesis.card import Figure, Origin
from tasks.cases import read_cases
from tasks.workspace import load_center, load_params


def training_layouts(root: Path) -> list[tuple[str, Layout]]:
    """Return (case id, layout) of the training cases, those of other patients never: they are for measuring."""
    cases = read_cases(root, load_params(root)).of_group("train")
    return [(str(cases.ids[i]), cases.layout(i)) for i in range(len(cases))]


def training_facts(root: Path) -> tuple[list[Layout], tuple[Origin, ...], tuple[Figure, ...]]:
    """Return the training layouts, the centers behind them with their licences, and the figures of the last report."""
    layouts = [layout for _, layout in training_layouts(root)]
    names, counts = np.unique([layout.center or "" for layout in layouts], return_counts=True)
    origins = []
    for name, count in zip(names, counts, strict=True):
        profile = load_center(root, str(name))
        origins.append(Origin(profile.title, profile.licence, int(count)))
    return layouts, tuple(origins), _figures(root / "reports" / "quality.json")


def _figures(path: Path) -> tuple[Figure, ...]:
    if not path.is_file():
        return ()
    found = read_json(path)
    encoder = found.get("encoder", "")
    figures = [(f"{f['name']} (features: {encoder})", f, f.get("n_synthetic")) for f in found.get("fidelity", [])]
    figures += [(f"control: Dice, {c['structure']}", c, c.get("n")) for c in found.get("control", [])]
    return tuple(Figure(n, f["value"], f["low"], f["high"], count) for n, f, count in figures if f["value"] is not None)
