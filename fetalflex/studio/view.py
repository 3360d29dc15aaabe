"""The state of a sitting as plain objects for the page."""

from typing import Any

from fetalflex.anatomy.anomalies import ANOMALIES
from fetalflex.anatomy.ontology import plane
from fetalflex.studio.desk import Desk
from fetalflex.studio.drawing import as_json as as_json
from fetalflex.studio.drawing import describe, draw_layout, label_of
from fetalflex.studio.measurements import measurements, scale_of
from fetalflex.studio.sitting import Made, Sitting
from fetalflex.studio.starts import Cases
from fetalflex.studio.work import Job
from fetalflex.synthesis.models import Model
from fetalflex.synthesis.picture import Picture


def choices(model: Model, planes: tuple[str, ...], cases: Cases | None) -> dict[str, Any]:
    """Return what can be chosen in this studio."""
    listed = [] if cases is None else cases.listed()
    return {
        "planes": [{"name": p, "label": plane(p).meaning} for p in planes],
        "centers": list(model.generator.vocabulary[1:]),
        "cases": [{"id": c.id, "plane": c.plane, "center": c.center} for c in listed],
    }


def state(sitting: Sitting, model: Model) -> dict[str, Any]:
    """Return all that the page shows of a sitting."""
    back, forth = sitting.steps
    desk = sitting.desk
    return {
        "undo": back, "redo": forth, "desk": None if desk is None else _desk(desk, model),
        "results": [result(m) for m in reversed(sitting.results.values())],
        "job": None if sitting.job is None or sitting.job.ended else sitting.job.id,
    }  # fmt: skip


def result(made: Made) -> dict[str, Any]:
    """Return one image of the history."""
    return {
        "id": made.id, "number": made.number, "kind": made.kind, "seed": made.seed, "plane": made.desk.asked.plane,
        "anomalies": [list(a) for a in made.desk.anomalies], "origin": made.desk.origin,
        "width": made.image.shape[1], "height": made.image.shape[0],
    }  # fmt: skip


def job(found: Job, ahead: int) -> dict[str, Any]:
    """Return how far a job is."""
    return {
        "id": found.id, "state": found.state, "ahead": ahead, "stage": found.stage, "done": found.done,
        "most": found.most, "version": found.version, "result": found.result, "error": found.error,
    }  # fmt: skip


def adopted(made: Made) -> Desk:
    """Return the desk on which a made image is the one to be edited."""
    # Its pixels have no spacing of their own: the layout states the mm.
    private = made.desk.private and made.kind == "counterfactual"
    return made.desk.adopted(Picture(made.image), f"image {made.number}", private=private)


def _desk(desk: Desk, model: Model) -> dict[str, Any]:
    layout = desk.asked
    scale, drawn = scale_of(desk.start), draw_layout(layout)
    present = {o.structure for o in layout.objects}
    height, width = (1, 1) if desk.picture is None else desk.picture.pixels.shape
    return {
        "plane": layout.plane, "plane_label": plane(layout.plane).meaning, "unit": layout.unit,
        "extent": layout.extent, "center": layout.center, "age_weeks": layout.age_weeks,
        "age_derived": layout.age_derived, "age_assumed": scale.weeks, "origin": desk.origin,
        "objects": [as_json(d) | {"says": describe(d, layout.extent, layout.unit)} for d in drawn],
        "absent": sorted(layout.absent), "anomalies": [list(a) for a in desk.anomalies],
        "measurements": [as_json(m) for m in measurements(layout, scale)],
        "has_picture": desk.picture is not None, "width": int(width), "height": int(height),
        "can_counterfactual": desk.picture is not None, "canvas_px": model.generator.size,
        "structures": [
            {"name": s, "label": label_of(s), "present": s in present} for s in plane(layout.plane).structures
        ],
        "possible": _possible(desk),
    }  # fmt: skip


def _possible(desk: Desk) -> list[dict[str, Any]]:
    """Return the anomalies of the plane, with their range, and what the layout lacks for them."""
    present = {o.structure for o in desk.start.objects}
    return [
        {
            "name": a.name, "label": label_of(a.name), "unit": a.unit, "low": a.severity[0], "high": a.severity[1],
            "definition": a.definition, "missing": [label_of(n) for n in a.needs if n not in present],
            "limit": a.limit,
        }
        for a in ANOMALIES.values()
        if desk.start.plane in a.planes
    ]  # fmt: skip
