"""Editing an image: the same picture with an anomaly, different only where the layouts differ."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex import __version__, rng
from fetalflex.anatomy.anomalies import apply_anomalies, find_anomaly
from fetalflex.anatomy.layout import Layout, LayoutObject, Mask, changed_region, to_avoid
from fetalflex.anatomy.ontology import plane_index
from fetalflex.artifacts import read_json, write_json, writing_folder
from fetalflex.diffusion.two_stage import SampleRequest, SampleResult
from fetalflex.errors import LayoutError, UsageError
from fetalflex.masks.segmenter import predicted_structures
from fetalflex.model.pipeline import sampling_of
from fetalflex.model.plane_reader import OPEN_PLANES, compatible
from fetalflex.synthesis.generate import known
from fetalflex.synthesis.models import Model
from fetalflex.synthesis.outputs import write_png
from fetalflex.synthesis.picture import Picture, Pixels
from fetalflex.synthesis.requests import Ask, check_ask

SURE, UNSURE = 0.9, 0.5
_LEAST_CONFIDENCE = 0.5
_SAME_SIZE = 0.02


@dataclass(frozen=True, eq=False)
class Edit:
    """What is asked: anomalies (name, severity) or a layout to reach (`target`), and what is known of the picture.

    None: predicted.
    """

    picture: Picture
    anomalies: tuple[tuple[str, float], ...]
    plane: str | None = None
    layout: Layout | None = None
    age_weeks: float | None = None
    center: str | None = None
    seed: int = 0
    target: Layout | None = None


@dataclass(frozen=True)
class PlaneFound:
    """A picture's plane: as given or as predicted, and the reader's confidence in it, None without a reader."""

    plane: str
    given: bool
    confidence: float | None


def settle_plane(model: Model, picture: Picture, given: str | None) -> PlaneFound:
    """Return a picture's plane. Without `given` it is predicted, and must be likelier than not.

    Raises: LayoutError where the reader is sure (0.9) of a plane that cannot be the given one, or unsure (0.5) of all;
    UsageError where none is given and the model has no reader.
    """
    reader = model.plane_reader
    if reader is None:
        if given is None:
            raise UsageError("this model cannot tell an image's plane; give it with --plane")
        return PlaneFound(given, True, None)
    chances = reader.predict(picture.canvas(model.generator.size)[None])[0]
    best = int(chances.argmax())
    seen, sure = reader.planes[best], float(chances[best])
    if given is not None:
        if sure >= SURE and not compatible(seen, given):
            raise LayoutError(
                f"the image is of another plane: it looks like {seen!r} ({sure:.2f}), asked was {given!r}; "
                f"give the right --plane, or another image"
            )
        fitting = [float(c) for c, name in zip(chances, reader.planes, strict=True) if compatible(name, given)]
        return PlaneFound(given, True, sum(fitting))
    if sure < UNSURE:
        raise LayoutError(f"the image's plane is not clear: {seen!r} at best ({sure:.2f}); give it with --plane")
    return PlaneFound(seen, False, sure)


def predict_layout(model: Model, picture: Picture, plane: str) -> Layout:
    """Return the layout that the guide sees on a picture, in mm where its spacing is known.

    Raises: LayoutError where it sees nothing of that plane.
    """
    size = model.generator.size
    chances = model.guide.predict(picture.canvas(size)[None])
    found = predicted_structures(chances, np.array([plane_index(plane)]), _LEAST_CONFIDENCE)
    if not found:
        raise LayoutError(
            f"no structure of plane {plane!r} can be seen on the image; "
            f"give its layout with --layout, or the right --plane"
        )
    extent, unit = picture.extent_mm() or 1.0, "image" if picture.spacing_mm is None else "mm"
    scale = extent / size
    objects = tuple(
        LayoutObject(f.structure, tuple(v * scale for v in f.box), f.mask)  # type: ignore[arg-type]
        for f in found
    )
    return Layout(plane, unit, extent, objects)  # type: ignore[arg-type]


def check_size(picture: Picture, layout: Layout) -> None:
    """Raises: LayoutError where picture and layout both state mm, and not the same."""
    extent = picture.extent_mm()
    if extent is not None and layout.unit == "mm" and abs(layout.extent / extent - 1) > _SAME_SIZE:
        raise LayoutError(
            f"the image is of another size: {extent:.1f} mm across, the layout {layout.extent:.1f} mm; expected the "
            f"layout of this image"
        )


def edit_picture(model: Model, asked: Edit, target: Path) -> dict[str, Any]:
    """Write a picture without and with anomalies, both layouts and the region into a new folder; return a summary.

    normal.png, abnormal.png and region.png have the picture's own size, model/ holds them as the model saw and made
    them. Outside of the region (white) both are equal bit for bit. The folder appears whole or not at all; one that
    holds this very edit is left as it is.
    Raises: LayoutError, AnomalyError, ModelError, UsageError.
    """
    found = settle_plane(model, asked.picture, asked.plane or (asked.layout.plane if asked.layout else None))
    found = _as_shown(found, asked)
    check_ask(
        Ask(found.plane, asked.anomalies, asked.layout, "", asked.center, asked.age_weeks),
        model.generator.vocabulary,
    )
    if asked.layout is not None:
        check_size(asked.picture, asked.layout)
    normal = asked.layout or predict_layout(model, asked.picture, found.plane)
    normal = _stated(normal, asked)
    edited = _reached(normal, asked)
    request = edit_request(asked.picture, normal, edited, model.generator.size)
    sha256 = model.sha256()
    about = _settings(model, asked, normal, sha256)
    if _is_finished(target, about):
        done: dict[str, Any] = read_json(target / "edit.json")
        return done
    (result,) = model.stream([request], asked.seed)
    summary = about | {
        "plane": found.plane, "plane_given": found.given, "plane_confidence": known(found.confidence or float("nan")),
        "layout_given": asked.layout is not None, "evaluations": result.evaluations,
        "coarse_agreement": known(result.coarse_agreement), "agreement": known(result.agreement),
    }  # fmt: skip
    canvas = asked.picture.canvas(model.generator.size)
    after, where, grown = paste_edit(asked.picture, result)
    images = {"normal": asked.picture.pixels, "abnormal": after, "region": where.astype(np.uint8) * 255}
    small = {"normal": canvas, "abnormal": result.image, "region": grown.astype(np.uint8) * 255}
    _write(target, images, small, {"normal": normal, "abnormal": edited}, summary)
    return summary


def edit_request(picture: Picture, normal: Layout, edited: Layout, size: int) -> SampleRequest:
    """Return what is asked of the model: the picture again, made anew where two layouts of it differ.

    Raises: LayoutError where nothing that can be seen differs.
    """
    region = changed_region(normal, edited, size)
    if not region.any():
        raise LayoutError(f"the edit changes nothing that can be seen at {size} pixels; ask for a larger change")
    return SampleRequest("edit", edited, picture.canvas(size), region, to_avoid(normal, edited))


def paste_edit(picture: Picture, result: SampleResult) -> tuple[Pixels, Mask, Mask]:
    """Return the edited picture and where it may differ, in its own size, and that region bool [S, S] of the model."""
    size = result.image.shape[0]
    grown = np.ones((size, size), bool) if result.region is None else result.region
    after, where = picture.paste(picture.canvas(size), result.image, grown)
    return after, where, grown


def _reached(normal: Layout, asked: Edit) -> Layout:
    """Return the layout after the edit. Raises: LayoutError where the given one is no edit of the first."""
    if asked.target is None:
        return apply_anomalies(normal, asked.anomalies, rng.generator(asked.seed, "edit"))
    found, wanted = ((v.plane, v.unit, round(v.extent, 6)) for v in (asked.target, normal))
    if found != wanted:
        raise LayoutError(
            f"the layout to reach is of {found}; expected {wanted}, that of the image (plane, unit, side)"
        )
    return _stated(asked.target, asked)


def _as_shown(found: PlaneFound, asked: Edit) -> PlaneFound:
    """Return the plane that the anomalies can be shown on, where the predicted one leaves it open."""
    if found.given or not asked.anomalies:
        return found
    wanted = find_anomaly(asked.anomalies[0][0]).planes
    if found.plane in wanted:
        return found
    fitting = [p for p in OPEN_PLANES.get(found.plane, ()) if p in wanted]
    return replace(found, plane=fitting[0]) if len(fitting) == 1 else found


def _stated(layout: Layout, asked: Edit) -> Layout:
    changes: dict[str, Any] = {"center": asked.center or layout.center}
    if asked.age_weeks is not None:
        changes |= {"age_weeks": asked.age_weeks, "age_derived": False}
    return replace(layout, **changes)


def _settings(model: Model, asked: Edit, normal: Layout, sha256: str) -> dict[str, Any]:
    return {
        "image": asked.picture.sha256, "anomalies": [[n, s, find_anomaly(n).unit] for n, s in asked.anomalies],
        "seed": asked.seed, "model": sha256, "version": __version__, "sampling": sampling_of(model.sampling),
        "layout": hashlib.sha256(normal.to_json().encode()).hexdigest(),
        "target": None if asked.target is None else hashlib.sha256(asked.target.to_json().encode()).hexdigest(),
    }  # fmt: skip


def _is_finished(target: Path, about: dict[str, Any]) -> bool:
    """Whether the folder holds this very edit. Raises: UsageError where it holds anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    known_ = read_json(target / "edit.json") if (target / "edit.json").is_file() else {}
    if json.loads(json.dumps(about)) == {k: known_.get(k) for k in about}:
        return True
    raise UsageError(f"{target} is there already and holds something else: name a new folder")


def _write(
    target: Path,
    images: dict[str, Any],
    small: dict[str, Any],
    layouts: dict[str, Layout],
    summary: dict[str, Any],
) -> None:
    with writing_folder(target) as partial:
        for name, pixels in images.items():
            write_png(partial / f"{name}.png", pixels)
            write_png(partial / "model" / f"{name}.png", small[name])
        for name, layout in layouts.items():
            (partial / f"layout_{name}.json").write_text(layout.to_json() + "\n", encoding="utf-8")
        write_json(partial / "edit.json", summary)
