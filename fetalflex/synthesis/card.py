"""The model card: README.md of a pipeline's folder, with the hub's YAML header. Only what is known stands there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from fetalflex import __version__
from fetalflex.artifacts import atomic


@dataclass(frozen=True)
class Origin:
    """A center that the model was trained on, and under what licence its data came."""

    title: str
    licence: str
    cases: int


@dataclass(frozen=True)
class Figure:
    """A measured figure with its 95 % interval and number of images; `low`, `high` are None where not known."""

    name: str
    value: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class Facts:
    """What a card says of a model."""

    sha256: str
    image_size: int
    parameters: int
    planes: dict[str, int]
    vocabulary: tuple[str, ...]
    origins: tuple[Origin, ...] = ()
    figures: tuple[Figure, ...] = ()
    reads_planes: bool = False


def model_card(facts: Facts) -> str:
    """Return the card as Markdown with a YAML header. Equal facts give equal text: no clock is read."""
    header = {
        "library_name": "diffusers",
        "license": "other",
        "license_name": "that-of-the-training-data",
        "tags": ["ultrasound", "fetal", "medical", "synthetic-data", "layout-to-image", "flow-matching", "fetalflex"],
    }
    parts = [
        "---\n" + yaml.safe_dump(header, sort_keys=False) + "---",
        "# FetalFlex generator",
        _what(facts),
        "## Use\n\n" + _USE,
        "## Trained on\n\n" + _origins(facts.origins),
        "## Figures\n\n" + _figures(facts.figures),
        "## Intended use and limits\n\n" + _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def write_card(folder: Path, text: str) -> None:
    """Write README.md into a pipeline's folder."""
    with atomic(folder / "README.md") as partial:
        partial.write_text(text, encoding="utf-8")


def _what(facts: Facts) -> str:
    planes = ", ".join(f"`{name}` ({count})" for name, count in facts.planes.items()) or "not known"
    centers = ", ".join(f"`{name}`" for name in facts.vocabulary) or "not known"
    reader = "It tells an image's plane, with a confidence. " if facts.reads_planes else ""
    return (
        f"Makes fetal ultrasound images from anatomical layouts: a plane, structures as boxes or outlines, the style\n"
        f"of a center, a gestational age; each may be left out. Flow matching with a layout encoder and two-stage\n"
        f"sampling, {facts.image_size} x {facts.image_size} pixels, {facts.parameters / 1e6:.1f} million parameters.\n"
        f"{reader}Written by FetalFlex {__version__}.\n\n"
        f"- Planes it was trained on (images): {planes}\n"
        f"- Styles it knows: {centers}\n"
        f"- SHA-256 of its weights: `{facts.sha256}`"
    )


def _origins(origins: Sequence[Origin]) -> str:
    if not origins:
        return "Not recorded."
    rows = [f"| {o.title} | {o.cases} | {o.licence} |" for o in origins]
    return (
        "\n".join(["| center | images | licence of the data |", "|---|---|---|", *rows])
        + "\n\nWho uses the weights is bound by these licences. No abnormal case was trained on: anomalies are edits\n"
        "of layouts. Starting layouts are stored as statistics over at least 8 layouts, never as outlines of a\n"
        "patient; the outlines of the centers' fields of view, geometry of devices, are stored as they are."
    )


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return "None were measured when this folder was written."
    rows = [
        f"| {f.name} | {f.value:.3f} | "
        + (f"{f.low:.3f} to {f.high:.3f}" if f.low is not None and f.high is not None else "-")
        + f" | {f.n if f.n is not None else '-'} |"
        for f in figures
    ]
    return "\n".join(["| figure | value | 95 % interval | images |", "|---|---|---|---|", *rows])


_USE = """```python
from pathlib import Path

from fetalflex.model.pipeline import FetalFlexPipeline

pipeline = FetalFlexPipeline.from_pretrained("FOLDER")
pipeline(Path("layout.json").read_text(), seed=1).images[0].save("image.png")
```

or `fetalflex generate --model FOLDER --plane PLANE --count 4 --out DIR`. Nothing is unpickled or fetched."""

_LIMITS = """For research: training and testing of software, teaching, simulating anomalies at stated severities. **Not
for diagnosis**, nor as evidence of how a device or a disease looks.

- Images are synthetic, and DICOM written from them says so (Synthetic Data (0008,001C) is YES).
- What the training data do not show (devices, populations, planes, gestational ages) the model cannot show.
- An anomaly changes the layout; how its tissue looks is what the model knows from normal images.
- Near-copies of training images are possible; FetalFlex's report counts them."""
