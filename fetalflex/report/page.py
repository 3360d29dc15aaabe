"""The report of a run: one self-contained HTML page. What was not run, or failed, is said in its place."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fetalflex.anatomy.severities import KINDS
from fetalflex.artifacts import encode_png
from fetalflex.quality.control.overlap import OVERALL
from fetalflex.report.figures import COLOURS, Outline, loss_curves, outline_path, outlines, severity_scatter

Grey = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
State = Literal["Cached", "Completed", "Failed", "Not run"]
Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Run:
    """What was run, where and when. Times are in seconds; `date` is text as it is to be shown."""

    preset: str
    date: str
    machine: str
    seconds: float
    git_commit: str
    git_dirty: bool
    data_version: str
    model_sha256: str | None = None
    title: str = "Synthetic fetal ultrasound"


@dataclass(frozen=True)
class Stage:
    """One stage of the chain as it ended. `note`: why it failed or was not run."""

    name: str
    state: State
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class CenterCounts:
    """Images of a center by plane, patients' group and, where unusable, by reason. `noted`: what else is told."""

    name: str
    title: str
    role: str
    planes: Mapping[str, int]
    groups: Mapping[str, int]
    quarantine: Mapping[str, int]
    licence: str = ""
    noted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SampleView:
    """A real image, the asked layout [K, S, S] and the synthetic image. `accepted`: None where the gate did not run.

    `told`: its anomaly, where it has one.
    """

    real: Grey
    maps: Array
    synthetic: Grey
    plane: str
    center: str
    image_id: str
    dice: float | None = None
    accepted: bool | None = None
    kind: str = "normal"
    told: str = ""


@dataclass(frozen=True, eq=False)
class PairView:
    """A counterfactual pair; outside `region` [S, S] not one pixel differs. `caption`: anomaly, severity, unit.

    `asked`: the abnormal layout [K, S, S]; `gone`: where the structures were that it takes away; `measured`: what the
    judge measures in the second half, as text.
    """

    before: Grey
    after: Grey
    region: Array
    caption: str
    asked: Array | None = None
    gone: Array | None = None
    measured: str = ""


@dataclass(frozen=True)
class AnomalyView:
    """One anomaly of the dataset: how many single images and pairs hold it, and its asked severities as text."""

    name: str
    definition: str
    single: int
    pairs: int
    severities: str


@dataclass(frozen=True, eq=False)
class NearestView:
    """A synthetic image beside the training image that is most like it."""

    synthetic: Grey
    training: Grey
    image_id: str
    correlation: float
    distance: float
    near_copy: bool


@dataclass(frozen=True, eq=False)
class ReportContext:
    """Everything the page shows. Every part but `run` may be absent; the page then says so.

    `quality`, `downstream`, `gate`: the JSON reports. `curves`: title -> {name: (steps, values)}. `simulated`: every
    center is a phantom, so no image is called real.
    """

    run: Run
    stages: Sequence[Stage] = ()
    centers: Sequence[CenterCounts] = ()
    samples: Sequence[SampleView] = ()
    pairs: Sequence[PairView] = ()
    anomalies: Sequence[AnomalyView] = ()
    nearest: Sequence[NearestView] = ()
    curves: Mapping[str, Curves] = field(default_factory=dict)
    quality: Mapping[str, Any] | None = None
    downstream: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    simulated: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture of the page: a PNG as base64 with outlines above it."""

    png: str
    side: int
    alt: str
    shapes: tuple[Outline, ...] = ()
    dimmed: bool = False


def page_style() -> Markup:
    """Return the style sheet that all pages of ours share."""
    return Markup((files("fetalflex.report") / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


def render(context: ReportContext) -> str:
    """Return the page as HTML: no file, font, script or picture from elsewhere; all text is escaped."""
    control = list((context.quality or {}).get("control") or ())
    html = (
        environment()
        .get_template("template.html")
        .render(
            c=context,
            style=page_style(),
            fidelity={row["name"]: row for row in (context.quality or {}).get("fidelity") or ()},
            control=control,
            overall=next((row for row in control if row["structure"] == OVERALL), None),
            triptychs=[_triptych(sample) for sample in context.samples],
            pairs=[_pair(pair) for pair in context.pairs],
            found={row["anomaly"]: row for row in (context.quality or {}).get("anomalies") or ()},
            scatters=_scatters((context.quality or {}).get("anomalies") or ()),
            nearest=[_nearest(item) for item in context.nearest],
            curves=[(title, _base64(loss_curves(lines, title))) for title, lines in context.curves.items() if lines],
            legend=legend_of([s.maps for s in context.samples]),
            pair_legend=legend_of([m for p in context.pairs for m in (p.asked, p.gone) if m is not None]),
            planes=sorted({plane for center in context.centers for plane in center.planes}),
            failed=[stage for stage in context.stages if stage.state == "Failed"],
            warnings=_warnings(context),
            ends=_ends(context.stages),
        )
    )
    return say_simulated(html) if context.simulated else html


def environment() -> Environment:
    """Return what fills the templates of the pages."""
    made = Environment(
        loader=PackageLoader("fetalflex.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"seconds": duration, "figure": number, "percent": percent, "scale": scale}
    return made


def say_simulated(html: str) -> str:
    """Return a page on which every center is simulated without the word real: simulated images are none.

    The words of params.yaml (`<span class="said">`) stay as they are.
    """
    words = {"real": "simulated", "Real": "Simulated"}
    return re.sub(
        r'base64,[^"]*|<span class="said">[^<]*|\b[Rr]eal\b', lambda found: words.get(found[0], found[0]), html
    )


def duration(seconds: float) -> str:
    """Return a duration for people: 8 s, 3 min 05 s, 1 h 02 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure with so many decimals (fewer from 10 on), a true minus; a dash where there is none."""
    if value is None or value != value:
        return "–"
    size = abs(value)
    text = f"{size:.0f}" if size >= 100 else f"{size:.1f}" if size >= 10 else f"{size:.{digits}f}"
    return f"−{text}" if value < 0 and float(text) else text


def percent(value: float | None) -> str:
    """Return a fraction in percent; a dash where there is none."""
    return "–" if value is None or value != value else f"{100 * value:.1f} %"


def scale(value: float | None, top: float, bottom: float = 0.0) -> str:
    """Return a place between `bottom` and `top` as CSS percent, held inside."""
    if value is None or top <= bottom:
        return "0%"
    return f"{100 * min(1.0, max(0.0, (value - bottom) / (top - bottom))):.2f}%"


def _warnings(context: ReportContext) -> list[str]:
    quality = context.quality or {}
    names = {"kid": "KID", "frechet": "Fréchet distance"}
    found = [
        f"{names.get(r['name'], r['name'])}: {r['warning']}" for r in quality.get("fidelity") or () if r["warning"]
    ]
    found += [
        f"Plane {row['plane']} is not part of the downstream comparison: {row['test']} test images of "
        f"{row['patients']} patients, {row['train']} training images"
        for row in (context.downstream or {}).get("left_out") or ()
    ]
    return found


def _ends(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Return how each stage ended; of one with several instances (`ingest@center`) a failed one, else the first."""
    ends: dict[str, Stage] = {}
    for stage in stages:
        base = stage.name.partition("@")[0]
        if base not in ends or stage.state == "Failed":
            ends[base] = stage
    return ends


def legend_of(layouts: Sequence[Array]) -> list[tuple[str, str]]:
    """Return the structures that layouts hold with their colours."""
    seen = {shape.structure for maps in layouts for shape in outlines(maps)}
    return [(name, colour) for name, colour in COLOURS.items() if name in seen]


def _scatters(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return a plot of measured against asked severity per anomaly that has a measure and was measured at all."""
    return [
        (row["anomaly"], _base64(severity_scatter(row["points"], row["anomaly"], row["unit"], kind.limit)))
        for row in rows
        if (kind := KINDS[row["anomaly"]]).unit != "present" and row["n_measured"]
    ]


def _triptych(sample: SampleView) -> dict[str, Any]:
    shapes = outlines(sample.maps)
    asked = ", ".join(shape.structure for shape in shapes) or "no structure"
    place = f"{sample.plane}, {sample.center}"
    return {
        "sample": sample,
        "panels": [
            ("real", panel(sample.real, f"Real image: {place}")),
            ("asked", panel(sample.real, f"Asked layout: {asked}", shapes, dimmed=True)),
            ("synthetic", panel(sample.synthetic, f"Synthetic image: {place}")),
        ],
    }


def _pair(pair: PairView) -> dict[str, Any]:
    region = (Outline("region", "#ffb74d", outline_path(pair.region)),) if np.any(pair.region) else ()
    shapes = () if pair.asked is None else outlines(pair.asked)
    shapes += () if pair.gone is None else outlines(pair.gone, dashed=True)
    asked = [("asked", panel(pair.before, f"Asked: {pair.caption}", shapes, dimmed=True))] if shapes else []
    change = np.abs(pair.after.astype(np.int16) - pair.before).astype(np.uint8)
    outside = int(np.count_nonzero(change[~np.asarray(pair.region, bool)]))
    return {
        "caption": pair.caption,
        "measured": pair.measured,
        "outside": outside,
        "panels": [
            ("normal", panel(pair.before, "The normal image")),
            *asked,
            ("abnormal", panel(pair.after, f"The abnormal image: {pair.caption}")),
            ("difference", panel(change, "Absolute difference of the two", region)),
        ],
    }


def _nearest(item: NearestView) -> dict[str, Any]:
    return {
        "item": item,
        "panels": [
            ("synthetic", panel(item.synthetic, f"Synthetic image {item.image_id[:8]}")),
            ("nearest training image", panel(item.training, "The training image most like it")),
        ],
    }


def panel(image: Grey, alt: str, shapes: tuple[Outline, ...] = (), *, dimmed: bool = False) -> Panel:
    """Return a picture of a page."""
    return Panel(_base64(encode_png(image)), image.shape[0], alt, shapes, dimmed)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
