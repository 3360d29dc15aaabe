"""Commands that make images outside of the chain: generate, edit, export-model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fetalflex.errors import LayoutError, UsageError, WorkspaceError

if TYPE_CHECKING:
    from fetalflex.anatomy.layout import Layout
    from fetalflex.synthesis.models import Model
    from fetalflex.synthesis.picture import Picture
    from fetalflex.synthesis.requests import Draw

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")]
Plane = Annotated[str, typer.Option(help="transventricular, abdomen, femur, ...; see docs/layouts.md.")]
LayoutFile = Annotated[Path | None, typer.Option("--layout", metavar="FILE", help="A layout as JSON.")]
Anomalies = Annotated[
    list[str] | None, typer.Option("--anomaly", metavar="NAME", help="An anomaly; may be given several times.")
]
Severities = Annotated[
    list[float] | None, typer.Option("--severity", help="Its severity in its own unit; one for each --anomaly.")
]
ModelFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A model's folder ('fetalflex export-model'); else that of the workspace."),
]
Center = Annotated[str, typer.Option(metavar="STYLE", help="A center whose style is asked for; else none.")]
Age = Annotated[float | None, typer.Option(metavar="WEEKS", help="Gestational age.")]
Alone = Annotated[
    bool,
    typer.Option(
        "--alone",
        help="Make each image by itself on one thread: the same bytes on any machine, and as the studio does.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same images.")]


def generate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder, or that of a run that was cut off.")],
    plane: Plane = "",
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 8,
    layout: LayoutFile = None,
    anomaly: Anomalies = None,
    severity: Severities = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Keep this image; make anew only what the layout asks for.")
    ] = None,
    center: Center = "",
    age: Age = None,
    boxes_only: Annotated[bool, typer.Option("--boxes-only", help="Ask by boxes; outlines are the model's.")] = False,
    seed: Seed = 0,
    kind: Annotated[str, typer.Option("--format", help="png, parquet or dicom.")] = "png",
    unlike: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A layout whose structures, where --layout lacks them, are avoided."),
    ] = None,
    alone: Alone = False,
    model: ModelFolder = None,
    as_json: Json = False,
) -> None:
    """Make images of a plane, with or without an anomaly, from drawn layouts or a given one.

    Layouts are drawn from the training layouts of the workspace that you stand in, or with `--model` from the
    statistics in the model's folder. **png**: `images/`, `layouts/`; **parquet**: shards of images; **dicom**:
    Ultrasound Images marked as synthetic, outlines as SEG. `manifest.parquet` says for each image its seed, layout,
    model and stages.

    With `--reference` an image is kept but for the region where the layout's objects lie, or where the anomaly changes
    it. A run that was cut off goes on with the same command. Exit codes: 2 the command cannot be carried out as given;
    1 any other error; nothing is written then.
    """
    pairs = pair_anomalies(anomaly, severity)
    if kind not in ("png", "parquet", "dicom"):
        raise UsageError(f"--format {kind!r}; expected png, parquet or dicom")
    given, picture = _read_layout(layout), _read_picture(reference)
    name = plane or (given.plane if given else "")
    if not name and picture is None:
        raise UsageError("no plane: give one with --plane (or a --layout, which states its own)")
    root, opened = _open(model, alone=alone)
    from fetalflex.synthesis.edit import check_size, predict_layout, settle_plane
    from fetalflex.synthesis.generate import Job, generate
    from fetalflex.synthesis.requests import Ask

    source, canvas = "given", None
    if picture is not None:
        name = settle_plane(opened, picture, name or None).plane
        canvas = picture.canvas(opened.generator.size)
        if given is None:
            given, source = predict_layout(opened, picture, name), "seen on the reference"
        else:
            check_size(picture, given)
    ask = Ask(name, pairs, given, source, center or None, age, boxes_only, canvas, _read_layout(unlike))
    draw = None if given is not None else drawn_from(root, opened, age)
    job = Job(ask, count, seed, kind, out, picture.sha256 if picture else None)  # type: ignore[arg-type]
    resumed = _watch(generate(opened, job, draw), count)
    said = {"images": count, "kept": resumed, "plane": name, "manifest": str(out / "manifest.parquet")}
    _say(as_json, said, f"{count} images in {out} ({resumed} of them from before); manifest: {said['manifest']}")


def edit(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A PNG, JPEG or DICOM file.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    anomaly: Anomalies = None,
    severity: Severities = None,
    plane: Plane = "",
    layout: LayoutFile = None,
    center: Center = "",
    age: Age = None,
    seed: Seed = 0,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="The layout after the edit, instead of anomalies.")
    ] = None,
    alone: Alone = False,
    model: ModelFolder = None,
    as_json: Json = False,
) -> None:
    """Show an image with an anomaly: the same image, different only where the anatomy is.

    Writes `normal.png`, `abnormal.png` and `region.png` (white where anything may differ; elsewhere both are equal bit
    for bit) in the image's own size, the same in the model's size under `model/`, `layout_normal.json`,
    `layout_abnormal.json`, and `edit.json` with what it took. Where they are not given, the plane is read from the
    image, with its confidence, and the layout is what the guide sees on it. DICOM is read in a sandbox, texts blanked.

    An image that surely shows another plane is an error. Exit codes: 2 the command cannot be carried out as given; 1
    any other error; nothing is written then.
    """
    pairs = pair_anomalies(anomaly, severity)
    if not pairs and to is None:
        raise UsageError("no anomaly: give one with --anomaly NAME --severity NUMBER; docs/layouts.md lists them")
    if pairs and to is not None:
        raise UsageError("--anomaly and --to exclude each other: the layout of --to holds its anomalies")
    if to is not None and layout is None:
        raise UsageError("--to needs --layout: the layout of the image as it is, that the other one is compared with")
    given, picture, target = _read_layout(layout), _read_picture(image), _read_layout(to)
    if picture is None:
        raise UsageError("no image")
    _, opened = _open(model, alone=alone)
    from fetalflex.synthesis.edit import Edit, edit_picture

    asked = Edit(picture, pairs, plane or None, given, age, center or None, seed, target)
    said = edit_picture(opened, asked, out)
    sure = "" if said["plane_confidence"] is None else f" (confidence {said['plane_confidence']:.2f})"
    how = "given" if said["plane_given"] else "read from the image"
    _say(as_json, said | {"out": str(out)}, f"{out}: plane {said['plane']}, {how}{sure}")


def export_model(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    as_json: Json = False,
) -> None:
    """Write the workspace's trained model as one folder that diffusers loads, with its card.

    Holds generator, guide and plane reader as safetensors, statistics of the training layouts (no outline of a
    patient), and `README.md`: what it is, what it was trained on and under which licences, its figures. Load it with
    `FetalFlexPipeline.from_pretrained(DIR)`, or name it as `--model`.
    """
    from tasks.exporting import training_facts
    from tasks.workspace import find_root, load_params

    root = find_root(Path.cwd())
    params = load_params(root)
    from fetalflex.synthesis.models import export_model as export
    from fetalflex.synthesis.models import open_model

    opened = open_model(root / "models", params.sample)

    layouts, origins, figures = training_facts(root)
    facts = export(out, opened, layouts, origins, figures)
    said = {"out": str(out), "sha256": facts.sha256, "planes": facts.planes}
    _say(as_json, said, f"{out}: model {facts.sha256[:12]}, planes {', '.join(facts.planes)}")


def pair_anomalies(names: list[str] | None, severities: list[float] | None) -> tuple[tuple[str, float], ...]:
    """Return (anomaly, severity) pairs. Raises: UsageError where one is without the other."""
    found, numbers = names or [], severities or []
    if len(found) != len(numbers):
        raise UsageError(
            f"{len(found)} --anomaly and {len(numbers)} --severity; expected one severity for each anomaly"
        )
    return tuple(zip(found, numbers, strict=True))


def _read_layout(path: Path | None) -> "Layout | None":
    from fetalflex.anatomy.layout import Layout

    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"{path}: cannot be read ({error}); expected a layout as JSON") from error
    return Layout.from_json(text)


def _read_picture(path: Path | None) -> "Picture | None":
    from fetalflex.synthesis.picture import read_picture

    return None if path is None else read_picture(path)


def _open(model: Path | None, *, alone: bool = False) -> "tuple[Path | None, Model]":
    """Return the workspace, where the model is its own, and the model."""
    root, opened = open_any(model)
    return root, opened.alone() if alone else opened


def open_any(model: Path | None) -> "tuple[Path | None, Model]":
    """Return the model of a folder, or that of the workspace that we stand in, with the workspace."""
    from tasks.workspace import find_root, load_params

    if model is not None:
        from fetalflex.synthesis.models import open_model

        return None, open_model(model)
    try:
        root = find_root(Path.cwd())
    except WorkspaceError as error:
        raise UsageError(
            "no model: name its folder with --model, or stand in a workspace that has trained one"
        ) from error
    params = load_params(root)
    from fetalflex.synthesis.models import open_model

    return root, open_model(root / "models", params.sample)


def drawn_from(root: Path | None, opened: "Model", age: float | None) -> "Draw":
    """Return what layouts are drawn from: the workspace's training layouts, or the model's statistics."""
    from fetalflex.synthesis.requests import drawn_from_shapes, drawn_from_training

    if root is None:
        return drawn_from_shapes(opened.shapes)
    from tasks.exporting import training_layouts
    from tasks.workspace import load_params

    return drawn_from_training(training_layouts(root), load_params(root).sample.perturbation, age)


def _watch(steps: Any, count: int) -> int:
    """Run to the end with a progress bar; return how many images were there before."""
    from tasks.progress import bar

    resumed = 0
    with bar("images", count) as shown:
        for step in steps:
            shown.advance(step.done - shown.done)
            resumed = step.resumed
    return resumed


def _say(as_json: bool, value: dict[str, Any], text: str) -> None:
    typer.echo(json.dumps(value) if as_json else text)
